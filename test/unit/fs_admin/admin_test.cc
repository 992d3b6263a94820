// SPDX-License-Identifier: Apache-2.0
//
// The pure parts of the command line: options, words, URLs, base64.
// test/node runs the commands.

#include <sys/mount.h>

#include <catch2/catch.hpp>

#include "fs/admin/base64.h"
#include "fs/admin/client_config.h"
#include "fs/admin/locate.h"
#include "fs/admin/mount_options.h"
#include "fs/admin/nearest.h"
#include "fs/admin/output.h"

using namespace moorfs;
using namespace moorfs::admin;

TEST_CASE("mount options of all kinds are understood") {
  MountOptions o;
  REQUIRE(ApplyMountOptions("memory=1GiB,ro,cache_dir=/var/cache/x,cache-size=2G,nosuid,abort-after=10,,", &o).ok());
  CHECK(o.memory_bytes == 1_GiB);
  CHECK(DirtyBudget(o) + BlockCacheBytes(o) < o.memory_bytes);
  CHECK(o.cache_dir == "/var/cache/x");
  CHECK(o.cache_bytes == 2_GiB);
  CHECK(o.abort_after_s == 10);
  CHECK(o.read_only);
  CHECK(o.mount_flags == (MS_RDONLY | MS_NOSUID));
  REQUIRE(ApplyMountOptions("rw", &o).ok());
  CHECK_FALSE(o.read_only);
}

TEST_CASE("words for mount(8) and init systems mean nothing here") {
  MountOptions o;
  CHECK(ApplyMountOptions("defaults,noauto,nofail,_netdev,user,x-systemd.automount,X-mount.mkdir,comment=hi", &o).ok());
  CHECK(o.mount_flags == 0);
}

TEST_CASE("an unknown option is refused with its nearest neighbour") {
  MountOptions o;
  for (const auto& [word, near] : {std::pair{"memroy=1G", "\"memory\""}, {"cachedir=/x", "\"cache-dir\""},
                                   {"nosiud", "\"nosuid\""}, {"client_usr=nobody", "\"client-user\""}}) {
    const Status s = ApplyMountOptions(word, &o);
    CHECK(s.err() == EINVAL);
    INFO(s.message());
    CHECK(s.message().find(near) != std::string::npos);
  }
  CHECK(ApplyMountOptions("completelydifferent", &o).message().find("did you mean") == std::string::npos);
}

TEST_CASE("a value that cannot be used is named") {
  MountOptions o;
  for (const char* bad : {"memory=lots", "memory=", "memory", "abort-after=0", "abort-after=1x", "cache-dir=relative",
                          "log-level=loud"}) {
    const Status s = ApplyMountOptions(bad, &o);
    INFO(bad);
    CHECK(s.err() == EINVAL);
    CHECK(s.message().find("mount option") != std::string::npos);
  }
  o.memory_bytes = 1_MiB;
  CHECK(CheckMountOptions(o).err() == EINVAL);
}

TEST_CASE("every option of the table has words for the help and can be set by its name") {
  for (const MountOptionSpec& spec : MountOptionTable()) {
    CHECK(std::string(spec.help).size() > 10);
    CHECK(std::string(spec.metavar).size() > 1);
    MountOptions o;
    // Without a value the row is found, and says that one is missing.
    CHECK(ApplyMountOption(spec.name, "", &o).message().find("needs a value") != std::string::npos);
  }
}

TEST_CASE("a slip finds its word, another word does not") {
  const std::vector<std::string> words = {"mount", "umount", "status", "stats"};
  CHECK(Nearest("muont", words) == "mount");
  CHECK(Nearest("unmount", words) == "umount");
  CHECK(Nearest("stat", words) == "stats");
  CHECK(Nearest("zebra", words).empty());
  CHECK(Nearest("", words).empty());
}

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
