// SPDX-License-Identifier: Apache-2.0
//
// `moorfs load META FILE`.

#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/base/unique_fd.h"
#include "common/base/units.h"
#include "fs/admin/command.h"
#include "fs/admin/volume.h"
#include "fs/kv/open.h"
#include "fs/meta/check/dump.h"

namespace moorfs::admin {
namespace {

class LoadCommand final : public Command {
 public:
  std::string Name() const override { return "load"; }
  std::string Summary() const override { return "Make a metadata engine from a dump"; }
  std::string Example() const override { return "moorfs load leveldb:/srv/new-meta /backup/meta.dump"; }
  void Declare(Arguments& a) override {
    a.Positional("META", &meta_, "An empty or new engine: leveldb:DIR");
    a.Positional("FILE", &file_, "What `moorfs dump` wrote");
    a.Flag("--json", &json_, "Print JSON");
  }
  Status Run(Output& out) override;

 private:
  // The file from its start, with progress.
  meta::DumpSource Source(int fd, const char* verb, Output& out);
  std::string meta_, file_;
  bool json_ = false;
};

meta::DumpSource LoadCommand::Source(int fd, const char* verb, Output& out) {
  return [fd, verb, &out, offset = off_t{0}, this](char* buffer, size_t size) mutable -> Result<size_t> {
    ssize_t n;
    do {
      n = pread(fd, buffer, size, offset);
    } while (n < 0 && errno == EINTR);
    if (n < 0) return Error(Status::FromErrno("read " + file_));
    offset += n;
    out.Progress(std::string(verb) + ": " + FormatBytes(static_cast<uint64_t>(offset)));
    return static_cast<size_t>(n);
  };
}

Status LoadCommand::Run(Output& out) {
  ASSIGN_OR_RETURN_STATUS(const MetaUrl meta, ParseMeta(meta_));
  UniqueFd fd(open(file_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return Status::FromErrno("open " + file_);
  // Whole before anything is written: a damaged dump makes no half volume.
  auto summary = meta::VerifyDump(Source(fd.get(), "verifying", out));
  if (!summary) return summary.error().Annotate("load " + file_);
  ASSIGN_OR_RETURN_STATUS(const auto holder, FindHolder(meta));
  if (holder) return Status(EBUSY, "load into " + meta.Shown() + ": it is " + holder->description);
  kv::Options options;
  options.create_if_missing = true;
  ASSIGN_OR_RETURN_STATUS(auto kv, kv::OpenKvStore(meta.url, options));
  ASSIGN_OR_RETURN_STATUS(const os::LockFile lock, LockVolume(meta, "load"));
  auto stats = meta::Load(*kv, Source(fd.get(), "loading", out));
  if (!stats) return stats.error().Annotate("load " + file_ + " into " + meta.Shown());
  RETURN_IF_ERROR(kv->Sync());
  const VolumeFormat& format = summary->format;
  auto store = object::OpenObjectStore(format.store, false);
  const Status there = store ? (*store)->CheckStore(format.uuid) : store.error();
  if (!there.ok()) {
    out.Note("moorfs load: the metadata is loaded, but its data is not where it was: " + there.message());
  }
  out.Line(json_ ? nlohmann::json{{"volume", format.name}, {"uuid", FormatUuid(format.uuid)}, {"records", stats->records}}
                       .dump()
                 : "volume " + format.name + " (" + FormatUuid(format.uuid) + ") is loaded: " +
                       std::to_string(stats->records) + " records; check it with: moorfs fsck " + meta.Shown());
  return Status::Ok();
}

}  // namespace

std::unique_ptr<Command> MakeLoadCommand() { return std::make_unique<LoadCommand>(); }

}  // namespace moorfs::admin
