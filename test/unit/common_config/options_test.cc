// SPDX-License-Identifier: Apache-2.0
//
// The option table row by row, what each door may say, hostile names and
// values, and the text of docs/options.md.

#include <sys/mount.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <random>
#include <sstream>

#include "common/config/nearest.h"
#include "common/config/volume_options.h"

using namespace moorfs;
using namespace moorfs::config;

namespace {

constexpr Place kPlaces[] = {kMount, kFlex, kCsiVolume, kCsiClass};
constexpr Trust kTrusts[] = {Trust::kAdministrator, Trust::kVolume, Trust::kPod};

// A value each row takes.
std::string Good(const OptionSpec& s) {
  const std::string name = s.name;
  if (name == "meta") return "leveldb:/srv/meta";
  if (name == "fs") return "main";
  if (name == "mount-options") return "nodev,noatime";
  switch (s.type) {
    case OptionType::kText: return "text";
    case OptionType::kPath: return "/a/b";
    case OptionType::kBytes: return "64MiB";
    case OptionType::kSeconds: return "17";
    case OptionType::kFlag: return "";
    case OptionType::kChoice: return "debug";
    case OptionType::kUser: return "nobody";
  }
  return "";
}

Status SetOne(Trust trust, Place place, std::string_view name, std::string_view value) {
  OptionParser parser(trust, place);
  return parser.Set(name, value);
}

VolumeOptions Mount(std::initializer_list<std::string_view> lists) {
  OptionParser parser(Trust::kAdministrator, kMount);
  for (const auto list : lists) REQUIRE(parser.SetWords(list).ok());
  return parser.Finish().value();
}

bool Holds(const Status& s, std::string_view text) {
  UNSCOPED_INFO(s.message());
  return s.message().find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("each row can be set where it has a meaning by whom it trusts, and nowhere else") {
  for (const OptionSpec& s : OptionTable()) {
    for (const Place place : kPlaces) {
      for (const Trust trust : kTrusts) {
        INFO(s.name << " place " << place << " trust " << TrustName(trust));
        // A name may have a row of its own in another place ("subdir").
        const OptionSpec* here = nullptr;
        for (const OptionSpec& other : OptionTable()) {
          if (std::string_view(other.name) == s.name && (other.places & place) != 0) here = &other;
        }
        const Status status = SetOne(trust, place, s.name, Good(here ? *here : s));
        if (here == nullptr) {
          CHECK(status.err() == EINVAL);
          CHECK(Holds(status, "has no meaning here"));
        } else if (trust > here->trust) {
          CHECK(status.err() == EINVAL);
          CHECK(Holds(status, here->trust == Trust::kAdministrator ? "administrator only" : "may not be set by a pod"));
        } else {
          CHECK(status.ok());
        }
      }
    }
  }
}

TEST_CASE("each row has words for the help, and one that needs a value says so") {
  for (const OptionSpec& s : OptionTable()) {
    INFO(s.name);
    CHECK(std::string(s.help).size() >= 9);
    CHECK((std::string_view(s.metavar).empty()) == (s.type == OptionType::kFlag));
    for (const Place place : kPlaces) {
      if ((s.places & place) == 0 || s.type == OptionType::kFlag) continue;
      const Status status = SetOne(Trust::kAdministrator, place, s.name, "");
      if (std::string_view(s.name) == "subdir" && place != kMount) {
        CHECK(status.ok());  // the volume's root
      } else {
        CHECK(Holds(status, "needs a value"));
      }
    }
  }
}

TEST_CASE("a name with '_' is the name with '-', in each row") {
  for (const OptionSpec& s : OptionTable()) {
    std::string name = s.name;
    std::replace(name.begin(), name.end(), '-', '_');
    const Place place = (s.places & kFlex) != 0 ? kFlex : kMount;
    CHECK(SetOne(Trust::kAdministrator, place, name, Good(s)).ok());
  }
}

TEST_CASE("a second value is refused in the doors and wins for mount(8)") {
  for (const OptionSpec& s : OptionTable()) {
    for (const Place place : {kFlex, kCsiVolume, kCsiClass}) {
      if ((s.places & place) == 0) continue;
      INFO(s.name);
      OptionParser parser(Trust::kAdministrator, place);
      REQUIRE(parser.Set(s.name, Good(s)).ok());
      std::string other_spelling = s.name;
      std::replace(other_spelling.begin(), other_spelling.end(), '-', '_');
      CHECK(Holds(parser.Set(other_spelling, Good(s)), "is given twice"));
    }
  }
  CHECK(Mount({"memory=1GiB,rw", "memory=2GiB,ro"}).memory_bytes == 2_GiB);
  CHECK(Mount({"rw", "ro"}).read_only);
  CHECK_FALSE(Mount({"ro", "rw"}).read_only);
}

TEST_CASE("words that contradict each other are refused in the doors") {
  for (const auto& [one, other] : {std::pair{"ro", "rw"}, {"nosuid", "suid"}, {"dev", "nodev"}, {"exec", "noexec"},
                                   {"noatime", "relatime"}, {"strictatime", "noatime"}, {"diratime", "nodiratime"}}) {
    OptionParser parser(Trust::kVolume, kCsiVolume);
    REQUIRE(parser.Set(one, "true").ok());
    CHECK(Holds(parser.SetWords(other), "contradicts"));
  }
  OptionParser parser(Trust::kVolume, kFlex);
  REQUIRE(parser.Set("ro", "true").ok());
  CHECK(Holds(parser.Set("mount-options", "nosuid,ro"), "given twice"));
}

TEST_CASE("without an option the defaults hold, and those of the table are those of the code") {
  const VolumeOptions o = Mount({""});
  CHECK(ClientOptionWords(o).empty());
  for (const OptionSpec& s : OptionTable()) {
    if (s.type != OptionType::kBytes && s.type != OptionType::kSeconds && s.type != OptionType::kChoice) continue;
    // Set to the default, nothing differs from the default.
    INFO(s.name);
    CHECK(ClientOptionWords(Mount({std::string(s.name) + "=" + s.fallback})).empty());
  }
}

TEST_CASE("values outside their bounds are refused with the bounds") {
  struct Case {
    const char *name, *value, *says;
  };
  for (const Case& c : {Case{"memory", "16383KiB", "16.0 MiB"}, {"memory", "1025GiB", "1.0 TiB"},
                        {"memory", "lots", "not a size"}, {"memory", "-1", "not a size"},
                        {"cache-size", "1MiB", "16.0 MiB"}, {"cache-size", "2PiB", "1.0 PiB"},
                        {"read-ahead", "2GiB", "1.0 GiB"}, {"abort-after", "0", "between 1 and 86400"},
                        {"abort-after", "86401", "between 1 and 86400"}, {"abort-after", "1x", "between 1 and 86400"},
                        {"start-timeout", "99999999999999999999", "between 1 and 86400"},
                        {"cache-dir", "relative", "absolute"}, {"log-file", "x.log", "absolute"},
                        {"log-level", "loud", "debug, info"}, {"client-user", "-x", "USER"}}) {
    const Status s = SetOne(Trust::kAdministrator, kMount, c.name, c.value);
    INFO(c.name << "=" << c.value);
    CHECK(s.err() == EINVAL);
    CHECK(Holds(s, c.says));
    CHECK(Holds(s, std::string("mount option \"") + c.name + "\""));
  }
  for (const auto& [name, value] : {std::pair{"memory", "16MiB"}, {"memory", "1TiB"}, {"read-ahead", "0"},
                                    {"abort-after", "1"}, {"abort-after", "86400"}, {"cache-size", "16MiB"}}) {
    CHECK(SetOne(Trust::kAdministrator, kMount, name, value).ok());
  }
}

TEST_CASE("an unknown option is refused with its nearest neighbour, and its value is never shown") {
  for (const auto& [word, near] : {std::pair{"memroy=hunter2", "\"memory\""}, {"cachedir=hunter2", "\"cache-dir\""},
                                   {"nosiud", "\"nosuid\""}, {"client_usr=hunter2", "\"client-user\""}}) {
    OptionParser parser(Trust::kAdministrator, kMount);
    const Status s = parser.SetWords(word);
    CHECK(s.err() == EINVAL);
    CHECK(Holds(s, near));
    CHECK_FALSE(Holds(s, "hunter2"));
  }
  CHECK_FALSE(Holds(SetOne(Trust::kPod, kFlex, "completelydifferent", "x"), "did you mean"));
  CHECK(Holds(SetOne(Trust::kPod, kFlex, "cachedir", "x"), "did you mean \"cache-dir\"?"));
  // A META may hold a password.
  for (const char* meta : {"redis//u:hunter2@h", "hunter2", "leveldb:hunter2", "leveldb:/../hunter2"}) {
    CHECK_FALSE(Holds(SetOne(Trust::kVolume, kFlex, "meta", meta), "hunter2"));
  }
}

TEST_CASE("words for mount(8) and init systems mean nothing here") {
  const VolumeOptions o = Mount({"defaults,noauto,nofail,_netdev,user,x-systemd.automount,X-mount.mkdir,comment=hi,,"});
  CHECK(o.mount_flags == 0);
}

TEST_CASE("mount options of all kinds are understood") {
  const VolumeOptions o =
      Mount({"memory=1GiB,ro,cache_dir=/var/cache/x,cache-size=2G,nosuid,abort-after=10,,subdir=/a/../b"});
  CHECK(o.memory_bytes == 1_GiB);
  CHECK(o.cache_dir == "/var/cache/x");
  CHECK(o.cache_bytes == 2_GiB);
  CHECK(o.abort_after_s == 10);
  CHECK(o.read_only);
  CHECK(o.mount_flags == (MS_RDONLY | MS_NOSUID));
  // The client resolves it; it is no target's.
  CHECK(o.subdir == "/a/../b");
  CHECK(ClientOptionWords(o) == "memory=1073741824,cache-dir=/var/cache/x,cache-size=2147483648,abort-after=10");
}

TEST_CASE("a client's words, read again, are the same options") {
  OptionParser parser(Trust::kAdministrator, kCsiVolume);
  for (const auto& [name, value] :
       {std::pair{"memory", "77MiB"}, {"cache-dir", "/c d"}, {"cache-size", "5GiB"}, {"read-ahead", "0"},
        {"client-user", "nobody:nogroup"}, {"abort-after", "9"}, {"start-timeout", "8"}, {"log-level", "error"},
        {"log-file", "/l"}, {"subdir", "a"}, {"create-subdir", "true"}, {"ro", "true"}, {"meta", "leveldb:/m"}}) {
    REQUIRE(parser.Set(name, value).ok());
  }
  const VolumeOptions o = parser.Finish().value();
  const std::string words = ClientOptionWords(o);
  // What belongs to one target never reaches the client.
  for (const char* not_there : {"subdir", "ro", "meta", "fs"}) {
    INFO(words);
    CHECK(("," + words).find(std::string(",") + not_there) == std::string::npos);
  }
  CHECK(ClientOptionWords(Mount({words})) == words);
  CHECK(Mount({words}).client_user == "nobody:nogroup");
}

TEST_CASE("no value becomes a second option of the client") {
  for (const OptionSpec& s : OptionTable()) {
    if (s.option_class != OptionClass::kRestart || (s.places & kCsiVolume) == 0) continue;
    INFO(s.name);
    CHECK_FALSE(SetOne(Trust::kAdministrator, kCsiVolume, s.name, Good(s) + ",log-file=/etc/shadow").ok());
  }
}

TEST_CASE("control characters are refused in each value, and no message carries them") {
  for (const OptionSpec& s : OptionTable()) {
    for (const std::string& bad : {std::string("a\0b", 3), std::string("a\nb"), std::string("\x1b[2J"), std::string("\x7f")}) {
      const Place place = (s.places & kFlex) != 0 ? kFlex : kMount;
      const Status status = SetOne(Trust::kAdministrator, place, s.name, Good(s) + bad);
      CHECK(status.err() == EINVAL);
      const std::string& m = status.message();
      CHECK(std::none_of(m.begin(), m.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }));
    }
  }
}

TEST_CASE("hostile names are refused with a short printable message") {
  const std::string names[] = {std::string(4096, 'm'),  std::string(100'000, '\n'), std::string("me\0ta", 5), "me\nta",
                               "$(reboot)",            "; rm -rf /",             "../meta",                "mémoire",
                               "\xff\xfe",             " memory",                "memory ",                "META",
                               "--meta",               "kubernetes.io",          "evil.com/kubernetes.io"};
  for (const std::string& name : names) {
    for (const Place place : kPlaces) {
      const Status s = SetOne(Trust::kPod, place, name, "hunter2");
      CHECK(s.err() == EINVAL);
      CHECK(s.message().size() < 400);
      CHECK_FALSE(Holds(s, "hunter2"));
      CHECK(s.message().find('\n') == std::string::npos);
    }
  }
  CHECK(Holds(SetOne(Trust::kPod, kFlex, "", "x"), "no name"));
}

TEST_CASE("keys of Kubernetes are ignored in a volume's map and nowhere else") {
  for (const char* key : {"kubernetes.io/new", "csi.storage.k8s.io/pod.name", "storage.kubernetes.io/csiProvisionerIdentity",
                          "k8s.io/x"}) {
    CHECK(SetOne(Trust::kPod, kFlex, key, "any\nthing").ok());
    CHECK_FALSE(SetOne(Trust::kAdministrator, kMount, key, "x").ok());
  }
  CHECK_FALSE(IsKubernetesKey("notkubernetes.io/x"));
  CHECK_FALSE(IsKubernetesKey("kubernetes.io"));
}

TEST_CASE("a target's directory stays below the volume's root") {
  for (const auto& [given, plain] : {std::pair{"", ""}, {"/", ""}, {"a", "a"}, {"/a/b/", "a/b"}, {"a,b", "a,b"},
                                     {"ü n/ï", "ü n/ï"}, {"..a/b..", "..a/b.."}, {"$(x);`y`", "$(x);`y`"}}) {
    OptionParser parser(Trust::kPod, kFlex);
    INFO(given);
    REQUIRE(parser.Set("subdir", given).ok());
    CHECK(parser.Finish()->subdir == plain);
  }
  for (const std::string& bad : {std::string(".."), std::string("a/../b"), std::string("a/.."), std::string("/../a"),
                                 std::string("a//b"), std::string("."), std::string("a/./b"), std::string(256, 'x')}) {
    CHECK(SetOne(Trust::kPod, kFlex, "subdir", bad).err() == EINVAL);
  }
}

TEST_CASE("two spellings of an embedded volume are one") {
  for (const char* spelling : {"leveldb:/srv/vol", "leveldb:/srv//vol/", "leveldb:///srv/./vol"}) {
    OptionParser parser(Trust::kVolume, kCsiVolume);
    REQUIRE(parser.Set("meta", spelling).ok());
    CHECK(parser.Finish()->meta == "leveldb:/srv/vol");
  }
  for (const char* bad : {"leveldb:", "leveldb:/", "leveldb:rel", "leveldb:/a/../b", "/srv/vol", ":x", "LEVELDB:/x", "-o:x"}) {
    INFO(bad);
    CHECK(SetOne(Trust::kVolume, kCsiVolume, "meta", bad).err() == EINVAL);
  }
}

TEST_CASE("options that only make sense together are checked together") {
  OptionParser both(Trust::kVolume, kFlex);
  REQUIRE(both.Set("meta", "leveldb:/m").ok());
  REQUIRE(both.Set("fs", "m").ok());
  CHECK(Holds(both.Finish().error(), "both name the volume"));
  OptionParser alone(Trust::kVolume, kFlex);
  REQUIRE(alone.Set("create-subdir", "true").ok());
  CHECK(Holds(alone.Finish().error(), "subdir"));
}

TEST_CASE("names of file systems are resolved, and a handle is believed unless a pod chose it") {
  FsNames names;
  REQUIRE(AddFsName("main=leveldb:/srv//main", &names).ok());
  REQUIRE(AddFsName("b.2=redis://u:hunter2@h/0", &names).ok());
  CHECK(Holds(AddFsName("main=leveldb:/x", &names), "twice"));
  for (const char* bad : {"main", "=leveldb:/x", "a b=leveldb:/x", "x=", "x=/srv", "x=hunter2", "#=leveldb:/x", "../a=leveldb:/x"}) {
    INFO(bad);
    const Status s = AddFsName(bad, &names);
    CHECK(s.err() == EINVAL);
    CHECK_FALSE(Holds(s, "hunter2"));
  }
  const auto resolve = [&names](Trust trust, std::string_view handle, std::string_view fs) -> Result<std::string> {
    VolumeOptions o;
    o.fs = fs;
    TRY_VOID(ResolveVolume(names, trust, handle, &o));
    return o.meta;
  };
  CHECK(resolve(Trust::kPod, "", "main").value() == "leveldb:/srv/main");
  CHECK(resolve(Trust::kVolume, "main", "").value() == "leveldb:/srv/main");
  CHECK(resolve(Trust::kVolume, "b.2", "main").value() == "leveldb:/srv/main");
  CHECK(resolve(Trust::kVolume, "leveldb:/x/", "").value() == "leveldb:/x");
  CHECK(Holds(resolve(Trust::kPod, "leveldb:/x/", "").error(), "no file system is called"));
  CHECK(Holds(resolve(Trust::kPod, "", "mian").error(), "did you mean \"main\""));
  CHECK(Holds(resolve(Trust::kPod, "", "").error(), "set fs=NAME"));
  CHECK(Holds(resolve(Trust::kVolume, "", "").error(), "set meta=META"));
}

TEST_CASE("a handle is what stands before the first '#'") {
  CHECK(ParseHandle("main#a").fs == "main");
  CHECK(ParseHandle("main#a#b").suffix == "a#b");
  CHECK(ParseHandle("leveldb:/x").fs == "leveldb:/x");
  CHECK(ParseHandle("leveldb:/x").suffix.empty());
  CHECK(ParseHandle("#a").fs.empty());
  CHECK(ParseHandle("").fs.empty());
}

TEST_CASE("the mount key is of the volume alone") {
  VolumeOptions a, b;
  a.meta = b.meta = "leveldb:/m";
  b.read_only = true;
  b.subdir = "x";
  b.memory_bytes = 1_GiB;
  b.fs = "name";
  CHECK(MountKeyText(a) == MountKeyText(b));
  b.meta = "leveldb:/n";
  CHECK(MountKeyText(a) != MountKeyText(b));
  CHECK(MountKeyText(a).starts_with("moorfs-mount-key 1\n"));
}

TEST_CASE("random bytes never crash the parser, and what it takes from a pod stays in its bounds") {
  std::mt19937 random(7);
  using namespace std::string_literals;
  const std::string alphabet = "a/bfmorsuy-_=,.:#$ \n\0\xc3\xbc\xff\"'0159KMG"s;  // with the NUL inside
  std::vector<std::string> names = {"subdir", "fs", "mount-options", "ro", "create_subdir"};
  size_t taken = 0;
  for (int round = 0; round < 20'000; ++round) {
    OptionParser parser(Trust::kPod, kFlex);
    bool all = true;
    for (size_t i = 1 + random() % 3; i > 0; --i) {
      std::string value;
      // Half of the values have a chance to be taken.
      const size_t letters = random() % 2 == 0 ? alphabet.size() : 2;
      for (size_t n = random() % 12; n > 0; --n) value += alphabet[random() % letters];
      std::string name = names[random() % names.size()];
      if (random() % 4 == 0) name.insert(random() % name.size(), 1, alphabet[random() % alphabet.size()]);
      if (random() % 3 == 0) {
        all = parser.SetWords(name + "=" + value).ok() && all;
      } else {
        all = parser.Set(name, value).ok() && all;
      }
    }
    const auto o = parser.Finish();
    if (!all || !o) continue;
    ++taken;
    CHECK(o->meta.empty());
    CHECK(ClientOptionWords(*o).empty());
    CHECK(("/" + o->subdir + "/").find("/../") == std::string::npos);
    CHECK(o->subdir.find('\n') == std::string::npos);
    CHECK(o->subdir.find('\0') == std::string::npos);
  }
  CHECK(taken > 100);
}

TEST_CASE("a slip finds its word, another word does not") {
  const std::vector<std::string> words = {"mount", "umount", "status", "stats"};
  CHECK(Nearest("muont", words) == "mount");
  CHECK(Nearest("unmount", words) == "umount");
  CHECK(Nearest("stat", words) == "stats");
  CHECK(Nearest("zebra", words).empty());
  CHECK(Nearest("", words).empty());
}

TEST_CASE("docs/options.md is what the table prints") {
  std::ifstream file(OPTIONS_MD);
  REQUIRE(file.good());
  std::stringstream text;
  text << file.rdbuf();
  // Else: moorfs options --markdown > docs/options.md
  CHECK(text.str() == OptionsMarkdown());
}
