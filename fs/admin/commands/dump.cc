// SPDX-License-Identifier: Apache-2.0
//
// `moorfs dump TARGET FILE`.

#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/base/unique_fd.h"
#include "common/base/units.h"
#include "common/base/base64.h"
#include "fs/admin/command.h"
#include "fs/admin/volume.h"

namespace moorfs::admin {
namespace {

using Json = nlohmann::json;

Status WriteAll(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Status::FromErrno("write " + path);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return Status::Ok();
}

class DumpCommand final : public Command {
 public:
  std::string Name() const override { return "dump"; }
  std::string Summary() const override { return "Write a volume's metadata to a file; works while it is mounted"; }
  std::string Example() const override { return "moorfs dump /mnt /backup/meta.dump"; }
  void Declare(Arguments& a) override {
    a.Positional("TARGET", &target_, "META of the volume, or its mount point");
    a.Positional("FILE", &file_, "Where to; - is stdout. An existing file is replaced when all went well");
    a.Flag("--json", &json_, "Print JSON");
  }
  Status Run(Output& out) override {
    const bool to_stdout = file_ == "-";
    const std::string temporary = file_ + ".tmp-" + std::to_string(getpid());
    UniqueFd fd(to_stdout ? dup(STDOUT_FILENO)
                          : open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!fd) return Status::FromErrno("create " + temporary);
    const Status s = Write(fd.get(), to_stdout ? "stdout" : temporary, out);
    if (to_stdout) return s;
    if (!s.ok()) {
      unlink(temporary.c_str());
      return s;
    }
    if (rename(temporary.c_str(), file_.c_str()) != 0) return Status::FromErrno("rename " + temporary + " to " + file_);
    out.Line(json_ ? result_.dump()
                   : std::to_string(result_.value("records", uint64_t{0})) + " records, " +
                         FormatBytes(result_.value("bytes", uint64_t{0})) + " are in " + file_);
    return Status::Ok();
  }

 private:
  Status Write(int fd, const std::string& name, Output& out) {
    uint64_t bytes = 0;
    ASSIGN_OR_RETURN_STATUS(result_, CallVolume(target_, {{"cmd", "dump"}}, out, [&](std::string_view line) -> Status {
      ASSIGN_OR_RETURN_STATUS(const std::string piece, DecodeBase64(line));
      bytes += piece.size();
      out.Progress("dumping: " + FormatBytes(bytes));
      return WriteAll(fd, piece, name);
    }));
    if (bytes != result_.value("bytes", uint64_t{0})) return Status(EIO, "dump " + target_ + ": the stream was cut short");
    if (fsync(fd) != 0 && errno != EINVAL && errno != EROFS) return Status::FromErrno("sync " + name);
    return Status::Ok();
  }
  std::string target_, file_;
  bool json_ = false;
  Json result_;
};

}  // namespace

std::unique_ptr<Command> MakeDumpCommand() { return std::make_unique<DumpCommand>(); }

}  // namespace moorfs::admin
