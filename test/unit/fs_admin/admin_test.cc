// SPDX-License-Identifier: Apache-2.0
//
// The pure parts of the command line: options, words, URLs, base64.
// test/node runs the commands.

#include <catch2/catch.hpp>

#include "common/base/base64.h"
#include "fs/admin/client_config.h"
#include "fs/admin/locate.h"
#include "fs/admin/output.h"

using namespace moorfs;
using namespace moorfs::admin;

TEST_CASE("a password in a URL is never shown") {
  CHECK(RedactUrl("redis://user:secret@host:1/0") == "redis://user:***@host:1/0");
  CHECK(RedactUrl("postgres://user@host/db") == "postgres://user@host/db");
  CHECK(RedactUrl("s3://key:se@cret@host/b?x=y@z") == "s3://key:***@host/b?x=y@z");
  CHECK(RedactUrl("leveldb:/a:b@c") == "leveldb:/a:b@c");
  CHECK(RedactUrl("http://host:80/a@b") == "http://host:80/a@b");
  CHECK(ParseMeta("redis://user:secret@host/0").error().message().find("secret") == std::string::npos);
}

TEST_CASE("META and STORE become absolute") {
  auto meta = ParseMeta("leveldb:/tmp/../tmp/volume/");
  REQUIRE(meta);
  CHECK(meta->url == "leveldb:/tmp/volume");
  CHECK(meta->lock_path == "/tmp/volume/moorfs.lock");
  CHECK(AbsoluteStoreUrl("file:///tmp/../tmp/x").value() == "file:/tmp/x");
  CHECK(AbsoluteStoreUrl("file:").error().err() == EINVAL);
  CHECK(ParseMeta("leveldb:").error().err() == EINVAL);
  CHECK(ParseMeta("/srv/meta").error().message().find("leveldb:DIR") != std::string::npos);
}

TEST_CASE("file names cannot move the cursor") {
  CHECK(Printable("a\033[2Jb\n") == "a\\x1b[2Jb\\x0a");
  CHECK(Printable("ünï") == "ünï");
}

TEST_CASE("base64 gives back what it was given and refuses what it did not write") {
  CHECK(EncodeBase64("") == "");
  CHECK(EncodeBase64("f") == "Zg==");
  CHECK(EncodeBase64("fo") == "Zm8=");
  CHECK(EncodeBase64("foobar") == "Zm9vYmFy");
  std::string all;
  for (int i = 0; i < 1000; ++i) {
    CHECK(DecodeBase64(EncodeBase64(all)).value() == all);
    all += static_cast<char>(i * 7);
  }
  for (const char* bad : {"Zg", "Zg=", "Zg==Zg==", "Z===", "Zh==", "Zm9*", "Zm9v\n", "===="}) {
    INFO(bad);
    CHECK_FALSE(DecodeBase64(bad));
  }
}

TEST_CASE("a client's configuration survives its encoding") {
  ClientConfig c;
  c.meta_url = "leveldb:/x";
  c.uuid = "u";
  c.read_only = true;
  c.memory_bytes = 5;
  std::string text = EncodeClientConfig(c);
  CHECK(DecodeClientConfig(text).error().err() == EPROTO);  // the keeper's part is missing
  text.insert(text.size() - 1, R"(,"keeper":{"mountpoint":"/m","restarts":3})");
  auto d = DecodeClientConfig(text);
  REQUIRE(d);
  CHECK(d->meta_url == "leveldb:/x");
  CHECK(d->read_only);
  CHECK(d->memory_bytes == 5);
  CHECK(d->mountpoint == "/m");
  CHECK(d->restarts == 3);
}
