// SPDX-License-Identifier: Apache-2.0
//
// `moorfs format`: makes a volume out of an empty engine and an empty store.

#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "fs/admin/command.h"
#include "fs/admin/volume.h"
#include "fs/kv/open.h"

namespace moorfs::admin {
namespace {

constexpr uint64_t kMinBlock = 64_KiB, kMaxBlock = 16_MiB;

class FormatCommand final : public Command {
 public:
  std::string Name() const override { return "format"; }
  std::string Summary() const override { return "Make a new volume"; }
  std::string Example() const override {
    return "moorfs format leveldb:/srv/meta --store file:/srv/data --compression lz4";
  }
  void Declare(Arguments& a) override {
    a.Positional("META", &meta_text_, "Where the metadata will live: leveldb:DIR");
    a.Option("--store", &store_text_, "STORE", "Where the data will live: file:DIR", true);
    a.Option("--name", &name_, "NAME", "Name of the volume, shown by findmnt and status (default: DIR's name)");
    a.Option("--block-size", &block_text_, "SIZE", "Largest object in the store (default 4MiB)");
    a.Option("--compression", &codec_text_, "CODEC", "none, lz4 or zstd (default none)");
    a.Option("--trash-days", &trash_text_, "DAYS", "How long deleted files can be restored; 0 = not (default 1)");
    a.Flag("--force", &force_, "Give up the MoorFS volume that META or STORE holds");
    a.Flag("--if-new", &if_new_, "Succeed and change nothing when META holds this volume already");
    a.Flag("--json", &json_, "Print JSON");
  }
  Status Run(Output& out) override;

 private:
  Status Parse();
  Status GiveUpOldVolume(Output& out);
  Status Exists(const VolumeFormat& old, Output& out) const;

  std::string meta_text_, store_text_, name_, block_text_ = "4MiB", codec_text_ = "none", trash_text_ = "1";
  bool force_ = false, if_new_ = false, json_ = false;
  MetaUrl meta_;
  VolumeFormat format_;
};

Status FormatCommand::Parse() {
  ASSIGN_OR_RETURN_STATUS(meta_, ParseMeta(meta_text_));
  ASSIGN_OR_RETURN_STATUS(format_.store, AbsoluteStoreUrl(store_text_));
  ASSIGN_OR_RETURN_STATUS(const uint64_t block, ParseBytes(block_text_));
  if (block < kMinBlock || block > kMaxBlock || !std::has_single_bit(block)) {
    return Status(EINVAL, "use --block-size " + block_text_ + ": a power of two from 64KiB to 16MiB is needed");
  }
  format_.block_bytes = static_cast<uint32_t>(block);
  const auto codec = CodecFromName(codec_text_);
  if (!codec) return Status(EINVAL, "use --compression " + codec_text_ + ": known are none, lz4, zstd");
  format_.codec = *codec;
  const auto [end, error] =
      std::from_chars(trash_text_.data(), trash_text_.data() + trash_text_.size(), format_.trash_days);
  if (error != std::errc() || *end != '\0' || format_.trash_days > 3650) {
    return Status(EINVAL, "use --trash-days " + trash_text_ + ": a number from 0 to 3650 is needed");
  }
  format_.name = name_.empty() ? std::filesystem::path(meta_.directory).filename().string() : name_;
  for (const char c : format_.name) {
    const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                      c == '_' || c == '.';
    if (!fine && name_.empty()) return Status(EINVAL, "name the volume after " + meta_.directory + ": use --name with letters, digits, '-', '_', '.'");
    if (!fine) return Status(EINVAL, "use --name \"" + Printable(name_) + "\": letters, digits, '-', '_' and '.' are allowed");
  }
  if (format_.name.empty() || format_.name.size() > 63 || format_.name[0] == '.') {
    return Status(EINVAL, "use name \"" + format_.name + "\": 1 to 63 characters, not starting with '.', are needed");
  }
  // One inside the other would mix objects and metadata files.
  const std::string store_dir = format_.store.substr(format_.store.find(':') + 1);
  if (store_dir == meta_.directory) {
    return Status(EINVAL, "use " + store_dir + " for metadata and data: two directories are needed");
  }
  return Status::Ok();
}

// Removes the files of an engine that holds a volume of ours; anything else is
// refused by the engine itself when it is opened.
Status FormatCommand::GiveUpOldVolume(Output& out) {
  std::string old_uuid, old_store;
  {
    auto kv = kv::OpenKvStore(meta_.url, {});
    if (!kv) return kv.error().err() == ENOENT ? Status::Ok() : kv.error();
    auto old = meta::Meta::LoadFormat(**kv);
    if (!old && old.error().err() == ENOENT) return Status::Ok();
    if (!old) return old.error();
    old_uuid = FormatUuid(old->uuid);
    old_store = old->store;
  }
  for (const auto& entry : std::filesystem::directory_iterator(meta_.directory)) {
    if (entry.path().filename() == "moorfs.lock") continue;
    std::error_code error;
    std::filesystem::remove(entry.path(), error);
    if (error) return Status(error.value(), "remove " + entry.path().string() + ": " + error.message());
  }
  out.Note("gave up volume " + old_uuid + "; its objects are still in " + RedactUrl(old_store) + " under " + old_uuid +
           "/; delete them there when nobody needs them");
  return Status::Ok();
}

// For scripts and Jobs that run again: fine when it is the volume they ask for.
Status FormatCommand::Exists(const VolumeFormat& old, Output& out) const {
  const std::string what = "format " + meta_.Shown() + ": it holds volume " + old.name + " (" + FormatUuid(old.uuid) + ")";
  if (!if_new_) return Status(EEXIST, what + "; mount it, choose another directory, or give it up with --force");
  if (old.name != format_.name || old.store != format_.store) {
    return Status(EEXIST, what + " with its data in " + RedactUrl(old.store) + ", not volume " + format_.name +
                              " with its data in " + RedactUrl(format_.store));
  }
  out.Line(json_ ? nlohmann::json{{"volume", old.name}, {"uuid", FormatUuid(old.uuid)}, {"existed", true}}.dump()
                 : "volume " + old.name + " (" + FormatUuid(old.uuid) + ") is there already; nothing is changed");
  return Status::Ok();
}

Status FormatCommand::Run(Output& out) {
  RETURN_IF_ERROR(Parse());
  if (force_ && if_new_) return Status(EINVAL, "use --force with --if-new: one gives up what the other keeps");
  ASSIGN_OR_RETURN_STATUS(const auto holder, FindHolder(meta_));
  // Whoever serves it has read its format; another command may still be writing it.
  if (holder && if_new_ && !(holder->mountpoint.empty() && holder->pod.empty())) {
    out.Note(meta_.Shown() + " is " + holder->description + ": it holds a volume; nothing is changed");
    return Status::Ok();
  }
  if (holder) {
    return Status(EBUSY, "format " + meta_.Shown() + ": it is " + holder->description +
                             (holder->mountpoint.empty() ? "" : "; `moorfs umount " + holder->mountpoint + "` first"));
  }
  std::optional<os::LockFile> lock;
  if (access(meta_.lock_path.c_str(), F_OK) == 0) {
    ASSIGN_OR_RETURN_STATUS(lock, LockVolume(meta_, "format"));
    if (force_) RETURN_IF_ERROR(GiveUpOldVolume(out));
    // Without it, an engine whose making was interrupted looks foreign.
    if (access((meta_.directory + "/CURRENT").c_str(), F_OK) != 0) unlink(meta_.lock_path.c_str());
  }
  kv::Options engine_options;
  engine_options.create_if_missing = true;
  ASSIGN_OR_RETURN_STATUS(auto kv, kv::OpenKvStore(meta_.url, engine_options));
  if (auto old = meta::Meta::LoadFormat(*kv)) return Exists(*old, out);
  lock.reset();
  ASSIGN_OR_RETURN_STATUS(lock, LockVolume(meta_, "format"));

  format_.uuid = RandomUuid();
  const Uuid key = RandomUuid();
  std::copy(key.begin(), key.end(), format_.name_hash_key.begin());
  format_.created = Timestamp::Now();
  format_.created_by = std::string("moorfs ") + MOORFS_VERSION;
  ASSIGN_OR_RETURN_STATUS(auto store, object::OpenObjectStore(format_.store, true));
  RETURN_IF_ERROR(store->InitStore(format_.uuid, force_));
  RETURN_IF_ERROR(meta::Meta::FormatVolume(*kv, format_, geteuid(), getegid()));
  RETURN_IF_ERROR(kv->Sync());
  if (json_) {
    out.Line(nlohmann::json{{"volume", format_.name},
                            {"uuid", FormatUuid(format_.uuid)},
                            {"meta", meta_.Shown()},
                            {"store", store->Url()}}.dump());
  } else {
    out.Line("volume " + format_.name + " (" + FormatUuid(format_.uuid) + ") is ready: metadata in " + meta_.Shown() +
             ", data in " + store->Url());
    out.Line("mount it with: moorfs mount " + meta_.Shown() + " MOUNTPOINT");
  }
  return Status::Ok();
}

}  // namespace

std::unique_ptr<Command> MakeFormatCommand() { return std::make_unique<FormatCommand>(); }

}  // namespace moorfs::admin
