// SPDX-License-Identifier: Apache-2.0
//
// The installer's decisions, each by itself: which version is the newer one,
// where a kubelet looks for drivers, what a host's path is for us, what a
// manifest remembers. Whole installations: test/installer/run.

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <map>

#include "common/os/file.h"
#include "installer/files.h"
#include "installer/full.h"
#include "installer/host.h"
#include "installer/kubelet.h"
#include "installer/manifest.h"
#include "installer/programs.h"

namespace moorfs::installer {
namespace {

class Directory {
 public:
  Directory() {
    char name[] = "/tmp/moorfs-installer-XXXXXX";
    REQUIRE(mkdtemp(name) != nullptr);
    path_ = name;
  }
  ~Directory() { CHECK(os::RemoveTree(path_).ok()); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

void Write(const std::string& path, const std::string& text, mode_t mode = 0644) {
  REQUIRE(os::MakeDirs(path.substr(0, path.rfind('/')), 0755).ok());
  std::ofstream(path) << text;
  REQUIRE(chmod(path.c_str(), mode) == 0);
}

TEST_CASE("versions are compared by their numbers") {
  CHECK(CompareVersions("0.1.0", "0.1.0") == 0);
  CHECK(CompareVersions("0.1.0", "0.2.0") < 0);
  CHECK(CompareVersions("0.10.0", "0.9.9") > 0);
  CHECK(CompareVersions("1.0", "1.0.0") == 0);
  CHECK(CompareVersions("1.0.1", "1.0") > 0);
  CHECK(CompareVersions("1.2.0-rc1", "1.2.0") < 0);
  CHECK(CompareVersions("1.2.0-rc.2", "1.2.0-rc.10") < 0);
  CHECK(CompareVersions("1.2.0+build7", "1.2.0") == 0);
  // A door that does not tell its version is older than all that do.
  CHECK(CompareVersions("", "0.0.1") < 0);
  CHECK(CompareVersions("", "") == 0);
}

TEST_CASE("a kubelet's plugin directory is the one of its command line, then of its configuration") {
  const std::map<std::string, std::string> files = {
      {"/etc/kubelet.yaml",
       "kind: KubeletConfiguration\nnested:\n  volumePluginDir: /wrong\nvolumePluginDir: \"/from/yaml/\" # ours\n"},
      {"/etc/kubelet.json", "{\"kind\": \"KubeletConfiguration\",\n  \"volumePluginDir\": \"/from/json\"}"},
      {"/etc/plain.yaml", "kind: KubeletConfiguration\n"},
      {"/snap/args", "--root-dir=/r\n--volume-plugin-dir=\"/from/args\"\n"}};
  const auto read = [&files](const std::string& path) { return files.count(path) ? files.at(path) : ""; };
  const auto of = [&read](std::vector<std::string> argv) { return PluginDirOfCommand(argv, read); };
  CHECK(of({"/usr/bin/kubelet", "--volume-plugin-dir=/a/b/"}) == "/a/b");
  CHECK(of({"kubelet", "--volume-plugin-dir", "/a", "--config=/etc/kubelet.yaml"}) == "/a");
  CHECK(of({"kubelet", "--config", "/etc/kubelet.yaml"}) == "/from/yaml");
  CHECK(of({"kubelet", "--config=/etc/kubelet.json"}) == "/from/json");
  CHECK(of({"kubelet", "--config=/etc/plain.yaml"}) == kDefaultPluginDir);
  CHECK(of({"kubelet", "--config=/gone.yaml"}) == kDefaultPluginDir);
  CHECK(of({"/hyperkube", "kubelet", "--volume-plugin-dir=/h"}) == "/h");
  CHECK(of({"/snap/bin/kubelite", "--kubelet-args-file=/snap/args"}) == "/from/args");
  CHECK(of({"kubelet"}) == kDefaultPluginDir);
  // No kubelets.
  CHECK(of({"grep", "kubelet", "--volume-plugin-dir=/a"}).empty());
  CHECK(of({"kube-controller-manager", "--flex-volume-plugin-dir=/a"}).empty());
  CHECK(of({}).empty());
}

TEST_CASE("the plugin directory is found on a host") {
  const Directory d;
  const Host host(d.path());
  const auto kubelet = [&d](const std::string& pid, const std::string& flag) {
    Write(d / ("proc/" + pid + "/cmdline"), std::string("/usr/bin/kubelet\0", 17) + flag + std::string(1, '\0'));
  };
  SECTION("without a kubelet and without a known directory it is kubelet's default") {
    CHECK(FindPluginDir(host)->path == kDefaultPluginDir);
  }
  SECTION("without a kubelet it is the known one that exists") {
    REQUIRE(os::MakeDirs(d / "etc/kubernetes/volumeplugins", 0755).ok());
    CHECK(FindPluginDir(host)->path == "/etc/kubernetes/volumeplugins");
  }
  SECTION("several known ones are a question to a person, with both names") {
    REQUIRE(os::MakeDirs(d / "etc/kubernetes/volumeplugins", 0755).ok());
    REQUIRE(os::MakeDirs(d / "var/lib/kubelet/volumeplugins", 0755).ok());
    const auto found = FindPluginDir(host);
    REQUIRE_FALSE(found);
    CHECK_THAT(found.error().message(), Catch::Contains("--plugin-dir"));
    CHECK_THAT(found.error().message(), Catch::Contains("/etc/kubernetes/volumeplugins"));
    CHECK_THAT(found.error().message(), Catch::Contains("/var/lib/kubelet/volumeplugins"));
  }
  SECTION("a kubelet decides") {
    REQUIRE(os::MakeDirs(d / "etc/kubernetes/volumeplugins", 0755).ok());
    kubelet("17", "--volume-plugin-dir=/opt/there");
    CHECK(FindPluginDir(host)->path == "/opt/there");
    CHECK_THAT(FindPluginDir(host)->how, Catch::Contains("pid 17"));
  }
  SECTION("two kubelets that differ are a question to a person") {
    kubelet("17", "--volume-plugin-dir=/a");
    kubelet("18", "--volume-plugin-dir=/b");
    CHECK_FALSE(FindPluginDir(host));
  }
}

TEST_CASE("a host's symlinks stay on the host") {
  const Directory d;
  const Host host(d.path());
  REQUIRE(os::MakeDirs(d / "data/kubelet", 0755).ok());
  REQUIRE(os::MakeDirs(d / "var/lib", 0755).ok());
  REQUIRE(symlink("/data/kubelet", (d / "var/lib/kubelet").c_str()) == 0);
  REQUIRE(symlink("../../../../../../data", (d / "var/up").c_str()) == 0);
  REQUIRE(symlink("loop", (d / "loop").c_str()) == 0);
  CHECK(*host.Resolve("/var/lib/kubelet/volumeplugins") == d / "data/kubelet/volumeplugins");
  CHECK(*host.Resolve("/var/up/kubelet") == d / "data/kubelet");
  CHECK(*host.Resolve("/not/yet/there") == d / "not/yet/there");
  CHECK(*host.Resolve("/../../etc") == d / "etc");
  CHECK(host.Resolve("/loop/x").error().err() == ELOOP);
  CHECK_FALSE(host.Resolve("relative"));
  CHECK(*Host("/").Resolve("/") == "/");
}

TEST_CASE("a manifest remembers what was put where, and both hashes while one replaces the other") {
  const Directory d;
  const std::string file = d / "manifest.json";
  {
    auto manifest = Manifest::Load(file);
    REQUIRE(manifest);
    CHECK(manifest->entries().empty());
    manifest->Expect("/a/file", Entry::Kind::kFile, "1111");
    manifest->Settle("/a/file", "1111");
    manifest->Expect("/a/file", Entry::Kind::kFile, "2222");
    manifest->Expect("/a/link", Entry::Kind::kLink, "file");
    REQUIRE(manifest->Save().ok());
  }
  auto manifest = Manifest::Load(file);
  REQUIRE(manifest);
  REQUIRE(manifest->Find("/a/file") != nullptr);
  CHECK(manifest->Find("/a/file")->values == std::set<std::string>{"1111", "2222"});
  CHECK(manifest->Find("/a/link")->kind == Entry::Kind::kLink);
  manifest->Settle("/a/file", "2222");
  CHECK(manifest->Find("/a/file")->values == std::set<std::string>{"2222"});
  CHECK(manifest->Find("/b") == nullptr);

  for (const std::string damaged : {"", "{", "[]", "{\"format\": 1}", "{\"format\": 1, \"entries\": {\"/a\": 3}}",
                                    "{\"format\": 1, \"entries\": {\"/a\": {\"kind\": \"file\", \"values\": [1]}}}"}) {
    Write(file, damaged);
    CHECK(Manifest::Load(file).error().err() == EPROTO);
  }
  Write(file, "{\"format\": 2, \"entries\": {}}");
  CHECK_THAT(Manifest::Load(file).error().message(), Catch::Contains("newer installer"));
}

TEST_CASE("directories that the installer makes are noted, those that were there are not") {
  const Directory d;
  REQUIRE(os::MakeDirs(d / "opt", 0755).ok());
  const Host host(d.path());
  auto manifest = Manifest::Load(d / "manifest.json");
  REQUIRE(manifest->MakeDirs(host, "/opt/moorfs/x").ok());
  CHECK(manifest->Find("/opt") == nullptr);
  CHECK(manifest->Find("/opt/moorfs") != nullptr);
  CHECK(access((d / "opt/moorfs/x").c_str(), F_OK) == 0);
  CHECK(Manifest::Load(d / "manifest.json")->Find("/opt/moorfs/x") != nullptr);
}

TEST_CASE("a program with another loader is one that the kernel starts with it") {
  const Directory d;
  auto program = ReadProgram("/bin/true");
  REQUIRE(program);
  const auto is_there = [&d, &program](const std::string& loader) {
    std::string patched = *program;
    REQUIRE(SetInterpreter(&patched, loader).ok());
    const std::string path = d / "true";
    unlink(path.c_str());
    REQUIRE(WriteStored(path, patched, 0755).ok());
    return RunProgram({path});
  };
  CHECK(is_there("/lib64/../lib64/ld-linux-x86-64.so.2").has_value());
  CHECK(is_there(d / "no-such-loader").error().err() == ENOENT);
  std::string none = "#!/bin/sh\n";
  CHECK(SetInterpreter(&none, "/l").err() == ENOEXEC);
  std::string cut = program->substr(0, 100);
  CHECK(SetInterpreter(&cut, "/l").err() == ENOEXEC);
}

TEST_CASE("a door is believed only when it answers as kubelet wants it") {
  const Directory d;
  const auto door = [&d](const std::string& script) {
    Write(d / "door", "#!/bin/sh\n" + script + "\n", 0755);
    return d / "door";
  };
  CHECK(CheckDoor(door("echo '{\"status\": \"Success\", \"capabilities\": {\"attach\": false}}'")).ok());
  CHECK(CheckDoor(door("echo '{\"status\": \"Success\"}'")).err() == EPROTO);
  CHECK(CheckDoor(door("echo hello")).err() == EPROTO);
  CHECK(CheckDoor(door("exit 3")).err() == ENOEXEC);
  CHECK(CheckDoor(door("kill -9 $$")).err() == ENOEXEC);
  CHECK(CheckDoor(d / "none").err() == ENOENT);
  CHECK(*DoorVersion(door("echo '{\"status\": \"Success\", \"version\": \"1.2.3\"}'")) == "1.2.3");
  CHECK(DoorVersion(door("echo '{\"status\": \"Not supported\"}'"))->empty());
}

TEST_CASE("the version in use is in the name that bin leads to") {
  CHECK(VersionOfBin("0.1.0-0123456789ab/bin") == "0.1.0");
  CHECK(VersionOfBin("1.2.0-rc1-0123456789ab/bin") == "1.2.0-rc1");
  CHECK(VersionOfBin("").empty());
  CHECK(VersionOfBin("/usr/bin").empty());
}

TEST_CASE("what a killed installer left is removed, and nothing else") {
  const Directory d;
  Write(d / (std::string(kTemporaryPrefix) + "12-moorfs-flex"), "half");
  Write(d / (std::string(kTemporaryPrefix) + "13-dir/moorfs-flex"), "half");
  Write(d / ".other", "x");
  Write(d / "moorfs-flex", "x");
  REQUIRE(RemoveTemporaries(d.path()).ok());
  CHECK(access(TemporaryFor(d / "x").c_str(), F_OK) != 0);
  CHECK(access((d / (std::string(kTemporaryPrefix) + "12-moorfs-flex")).c_str(), F_OK) != 0);
  CHECK(access((d / (std::string(kTemporaryPrefix) + "13-dir")).c_str(), F_OK) != 0);
  CHECK(access((d / ".other").c_str(), F_OK) == 0);
  CHECK(access((d / "moorfs-flex").c_str(), F_OK) == 0);
  CHECK(RemoveTemporaries(d / "none").ok());
  CHECK(Sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace moorfs::installer
