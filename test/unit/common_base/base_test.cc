// SPDX-License-Identifier: Apache-2.0
//
// Status, sizes, times and the coding of persisted integers.

#include <fcntl.h>

#include <catch2/catch.hpp>

#include "common/base/coding.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "common/base/units.h"

namespace moorfs {
namespace {

Result<int> Half(int n) {
  if (n % 2 != 0) return Error(EINVAL, "halve " + std::to_string(n) + ": odd");
  return n / 2;
}

Result<int> Quarter(int n) {
  ASSIGN_OR_RETURN(const int half, Half(n));
  return Half(half);
}

TEST_CASE("a failure keeps its errno while callers add what they did") {
  CHECK(Status().ok());
  CHECK(Status().message().empty());
  CHECK(Status::Ok().Annotate("whatever").ok());
  const Status inner(ENOENT, "open x: no such file");
  const Status outer = inner.Annotate("mount /m");
  CHECK(outer.err() == ENOENT);
  CHECK(outer.message() == "mount /m: open x: no such file");
  CHECK(outer.ToString() == "mount /m: open x: no such file (ENOENT)");
  CHECK(inner.message() == "open x: no such file");
}

TEST_CASE("a failed step ends the function with the step's error") {
  CHECK(Quarter(8).value() == 2);
  CHECK(Quarter(6).error().err() == EINVAL);
  CHECK(Quarter(6).error().message() == "halve 3: odd");
}

TEST_CASE("errnos have names, unknown ones a number") {
  CHECK(ErrnoName(ENOSPC) == "ENOSPC");
  CHECK(ErrnoName(12345) == "E12345");
  CHECK(IsRetryable(Status(EAGAIN, "x")));
  CHECK(IsRetryable(Status(kErrnoConflict, "x")));
  CHECK_FALSE(IsRetryable(Status(EIO, "x")));
  CHECK_FALSE(IsRetryable(Status()));
}

TEST_CASE("sizes are read as people write them, and refused otherwise") {
  CHECK(ParseBytes("4096").value() == 4096);
  CHECK(ParseBytes("4MiB").value() == 4_MiB);
  CHECK(ParseBytes("512k").value() == 512_KiB);
  CHECK(ParseBytes("1gb").value() == 1_GiB);
  CHECK(ParseBytes("2P").value() == 2_PiB);
  for (const char* bad : {"", "k", "4X", "-1", "4 MiB", "1.5G", "4MiBs", "17179869184G", "99999999999999999999"}) {
    INFO(bad);
    const auto result = ParseBytes(bad);
    REQUIRE_FALSE(result);
    CHECK(result.error().err() == EINVAL);
    CHECK(result.error().message().find("'" + std::string(bad) + "'") != std::string::npos);
  }
  CHECK(FormatBytes(1023) == "1023 B");
  CHECK(FormatBytes(4_MiB) == "4.0 MiB");
  CHECK(FormatBytes(UINT64_MAX) == "16384.0 PiB");
}

TEST_CASE("times before 1970 have a positive fraction") {
  const Timestamp t{-1};
  CHECK(t.sec() == -1);
  CHECK(t.nsec() == 999'999'999);
  CHECK(Timestamp::FromParts(-1, 999'999'999) == t);
  CHECK(Timestamp{-Timestamp::kNsPerSec}.sec() == -1);
  CHECK(Timestamp{-Timestamp::kNsPerSec}.nsec() == 0);
  CHECK(Timestamp{1'500'000'000}.sec() == 1);
  CHECK(Timestamp{1'500'000'000}.nsec() == 500'000'000);
}

TEST_CASE("keys are big-endian, so that their order is that of the numbers") {
  std::string small, large;
  PutBe64(&small, 255);
  PutBe64(&large, 256);
  CHECK(small < large);
  CHECK(GetBe64(large.data()) == 256);
  std::string four;
  PutBe32(&four, 0x01020304);
  CHECK(four == std::string("\1\2\3\4", 4));
  CHECK(GetBe32(four.data()) == 0x01020304);
}

TEST_CASE("a value may lack a tail that younger versions write") {
  std::string value;
  PutLe8(&value, 7);
  PutLe16(&value, 0x1234);
  PutLe32(&value, 0x12345678);
  PutLe64(&value, 0x123456789abcdef0);
  PutBytes(&value, "name");
  ValueReader whole(value);
  CHECK(whole.Le8() == 7);
  CHECK(whole.Le16() == 0x1234);
  CHECK(whole.Le32() == 0x12345678);
  CHECK(whole.Le64() == 0x123456789abcdef0);
  CHECK(whole.Bytes() == "name");
  CHECK_FALSE(whole.exhausted());
  CHECK(whole.Le32(42) == 42);
  CHECK(whole.exhausted());

  // Cut anywhere, reading stays inside and says so.
  for (size_t cut = 0; cut < value.size(); ++cut) {
    ValueReader reader(std::string_view(value).substr(0, cut));
    reader.Le8();
    reader.Le16();
    reader.Le32();
    reader.Le64();
    CHECK(reader.Bytes().size() <= 4);
    CHECK(reader.exhausted());
  }
}

TEST_CASE("a descriptor is closed once, by its last owner") {
  const auto is_open = [](int fd) { return ::fcntl(fd, F_GETFD) >= 0; };
  UniqueFd a(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  REQUIRE(a.valid());
  const int number = a.get();
  {
    UniqueFd b(std::move(a));
    CHECK_FALSE(a.valid());  // NOLINT(bugprone-use-after-move): what is left is what is looked at
    CHECK(is_open(number));
  }
  CHECK_FALSE(is_open(number));
}

}  // namespace
}  // namespace moorfs
