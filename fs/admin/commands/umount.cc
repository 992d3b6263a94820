// SPDX-License-Identifier: Apache-2.0
//
// `moorfs umount MOUNTPOINT`.

#include "fs/admin/command.h"
#include "fs/admin/umount_volume.h"

namespace moorfs::admin {
namespace {

class UmountCommand final : public Command {
 public:
  std::string Name() const override { return "umount"; }
  std::string Summary() const override { return "Store unsaved data, unmount, and wait until all is done"; }
  std::string Example() const override { return "moorfs umount /mnt"; }
  void Declare(Arguments& a) override {
    a.Positional("MOUNTPOINT", &request_.mountpoint, "Where the volume is mounted");
    a.Flag("--lazy,-l", &request_.lazy, "Detach although it is in use; it ends with the last user");
    a.Flag("--discard-unsaved", &request_.discard_unsaved,
           "When the store refuses data, drop what was not stored yet. It is lost");
  }
  Status Run(Output& out) override { return UmountVolume(request_, out); }

 private:
  UmountRequest request_;
};

}  // namespace

std::unique_ptr<Command> MakeUmountCommand() { return std::make_unique<UmountCommand>(); }

}  // namespace moorfs::admin
