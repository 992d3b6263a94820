// SPDX-License-Identifier: Apache-2.0
//
// /sbin/mount.moorfs and /sbin/umount.moorfs: the words of mount(8) and
// umount(8), translated. Exit codes are mount(8)'s: 1 usage, 32 failure.

#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/log/log.h"
#include "fs/admin/mount_volume.h"
#include "fs/admin/output.h"
#include "fs/admin/roles.h"
#include "fs/admin/umount_volume.h"

namespace moorfs::admin {
namespace {

constexpr int kUsage = 1;
constexpr int kMountFailure = 32;

// mount(8) calls helpers with PATH unset and the options behind the operands:
// `getopt` of glibc permutes, so both orders work.
struct HelperArguments {
  std::vector<std::string> operands;
  std::vector<std::string> options;
  std::string letters;
};

bool Parse(int argc, char** argv, const char* accepted, HelperArguments* out) {
  for (int c; (c = getopt(argc, argv, accepted)) != -1;) {
    if (c == '?') return false;
    if (c == 'o') {
      out->options.emplace_back(optarg);
    } else {
      out->letters += static_cast<char>(c);
    }
  }
  for (int i = optind; i < argc; ++i) out->operands.emplace_back(argv[i]);
  return true;
}

Status ParseOptions(const std::vector<std::string>& lists, config::VolumeOptions* out) {
  config::OptionParser parser(config::Trust::kAdministrator, config::kMount);
  for (const std::string& words : lists) RETURN_IF_ERROR(parser.SetWords(words));
  ASSIGN_OR_RETURN_STATUS(*out, parser.Finish());
  return Status::Ok();
}

}  // namespace

int MountHelperMain(int argc, char** argv) {
  log::SetRole("mount");
  log::SetLevel(log::Level::kWarning);
  HelperArguments args;
  if (!Parse(argc, argv, "sfnvo:t:N:", &args) || args.operands.size() != 2) {
    std::fprintf(stderr, "usage: %s META MOUNTPOINT [-fnsv] [-o OPTIONS]\n", argv[0]);
    return kUsage;
  }
  Output out;
  MountRequest request;
  request.meta = args.operands[0];
  request.mountpoint = args.operands[1];
  request.already_mounted_is_fine = true;
  if (const Status s = ParseOptions(args.options, &request.options); !s.ok()) {
    out.Error("mount", s);
    return kUsage;
  }
  // -f: everything but the mount itself.
  if (args.letters.find('f') != std::string::npos) return 0;
  const auto ready = MountVolume(request, out);
  if (!ready) {
    out.Error("mount", ready.error());
    return kMountFailure;
  }
  return 0;
}

int UmountHelperMain(int argc, char** argv) {
  log::SetRole("umount");
  log::SetLevel(log::Level::kWarning);
  HelperArguments args;
  if (!Parse(argc, argv, "flnrvt:N:", &args) || args.operands.size() != 1) {
    std::fprintf(stderr, "usage: %s MOUNTPOINT [-flnrv]\n", argv[0]);
    return kUsage;
  }
  Output out;
  UmountRequest request;
  request.mountpoint = args.operands[0];
  request.lazy = args.letters.find('l') != std::string::npos;
  // -f asks for an end even if the server is unreachable; it never means that
  // data may be dropped.
  const Status s = UmountVolume(request, out);
  if (!s.ok()) {
    out.Error("umount", s);
    return kMountFailure;
  }
  return 0;
}

}  // namespace moorfs::admin
