// SPDX-License-Identifier: Apache-2.0

#include "common/mount/target.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/os/mounts.h"

namespace moorfs::mount {
namespace {

constexpr size_t kMaxPath = PATH_MAX - 1;
constexpr std::string_view kDeleted = "//deleted";

// Records are JSON and annotations, and neither holds other bytes. Overlong
// forms and surrogates count as wrong, as they do there.
bool IsUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u; };
    const unsigned first = byte(i);
    const size_t more = first < 0x80 ? 0 : first >= 0xc2 && first < 0xe0 ? 1 : first >= 0xe0 && first < 0xf0 ? 2
                        : first >= 0xf0 && first < 0xf5 ? 3 : 4;
    if (more == 4) return false;
    for (size_t k = 1; k <= more; ++k) {
      if ((byte(i + k) & 0xc0) != 0x80) return false;
    }
    if ((first == 0xe0 && byte(i + 1) < 0xa0) || (first == 0xed && byte(i + 1) >= 0xa0) ||
        (first == 0xf0 && byte(i + 1) < 0x90) || (first == 0xf4 && byte(i + 1) >= 0x90)) {
      return false;
    }
    i += more + 1;
  }
  return true;
}

Status BadPath(const char* field, const std::string& why) {
  return Status(EINVAL, std::string(field) + ": " + why);
}

// Calls `use` for every part between slashes.
template <typename Use>
Status ForEachPart(const char* field, std::string_view path, Use use) {
  if (path.find('\0') != std::string_view::npos) return BadPath(field, "it contains a NUL character");
  if (!IsUtf8(path)) return BadPath(field, "it is not valid UTF-8");
  if (path.size() > kMaxPath) return BadPath(field, "it is longer than " + std::to_string(kMaxPath) + " bytes");
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    if (part == "." || part == "..") return BadPath(field, "\".\" and \"..\" are not allowed in it");
    if (part.size() > NAME_MAX) return BadPath(field, "a part of it is longer than 255 bytes");
    RETURN_IF_ERROR(use(part));
  }
  return Status::Ok();
}

}  // namespace

Status CheckVolumeId(std::string_view id) {
  if (id.find('\0') != std::string_view::npos) return BadPath("volume id", "it contains a NUL character");
  if (id.size() > kMaxPath) return BadPath("volume id", "it is longer than " + std::to_string(kMaxPath) + " bytes");
  return IsUtf8(id) ? Status::Ok() : BadPath("volume id", "it is not valid UTF-8");
}

Result<std::string> CleanTargetPath(std::string_view target) {
  if (!target.starts_with('/')) return Error(BadPath("target", "an absolute path is needed"));
  std::string out;
  TRY_VOID(ForEachPart("target", target, [&](std::string_view part) {
    if (!part.empty()) out.append("/").append(part);
    return Status::Ok();
  }));
  if (out.empty()) return Error(BadPath("target", "\"/\" cannot be a target"));
  return out;
}

Status CheckVolumeDirectory(std::string_view directory) {
  if (directory.empty()) return Status::Ok();
  return ForEachPart("subdir", std::string(directory) + "/", [](std::string_view part) {
    return part.empty() ? BadPath("subdir", "\"/\" is not allowed at its start, nor twice or at its end")
                        : Status::Ok();
  });
}

std::vector<os::MountEntry> LayersAt(const std::vector<os::MountEntry>& table, std::string_view path) {
  std::vector<os::MountEntry> out;
  for (const os::MountEntry& m : table) {
    if (m.mountpoint == path) out.push_back(m);
  }
  // File order is the order of mounting as a rule; the chain of parents is sure.
  for (size_t placed = 0; placed + 1 < out.size(); ++placed) {
    const auto lies_on_another = [&](const os::MountEntry& m) {
      if (placed > 0) return m.parent != out[placed - 1].id;
      for (const os::MountEntry& other : out) {
        if (m.parent == other.id) return true;
      }
      return false;
    };
    for (size_t i = placed; i < out.size(); ++i) {
      if (lies_on_another(out[i])) continue;
      std::swap(out[placed], out[i]);
      break;
    }
  }
  return out;
}

bool ShowsRoot(const os::MountEntry& mount, std::string_view volume_directory) {
  return !mount.root.empty() && std::string_view(mount.root).substr(1) == volume_directory &&
         !mount.root.ends_with(kDeleted);
}

unsigned long FlagsOf(const os::MountEntry& mount) {
  unsigned long flags = 0;
  std::string_view words = mount.options;
  while (!words.empty()) {
    const size_t comma = words.find(',');
    os::ApplyMountFlag(words.substr(0, comma), &flags);
    words.remove_prefix(comma == std::string_view::npos ? words.size() : comma + 1);
  }
  return flags;
}

bool IsReadOnly(const os::MountEntry& mount) { return (FlagsOf(mount) & MS_RDONLY) != 0; }

int OpenDirectoryBeneath(int root, const char* path) {
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  const int fd = static_cast<int>(syscall(SYS_openat2, root, path, &how, sizeof how));
  if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return fd;
  // Older kernels, and sandboxes that forbid what they do not know: part by
  // part. A part that is a symlink is no directory.
  if (path[0] == '.' && path[1] == '\0') return openat(root, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  int current = root;
  char part[NAME_MAX + 1];
  while (*path != '\0') {
    size_t n = 0;
    while (path[n] != '\0' && path[n] != '/') ++n;
    if (n == 0 || n > NAME_MAX || (n == 1 && path[0] == '.') || (n == 2 && path[0] == '.' && path[1] == '.')) {
      errno = EINVAL;
    } else {
      for (size_t i = 0; i < n; ++i) part[i] = path[i];
      part[n] = '\0';
      errno = 0;
    }
    const int next = errno != 0 ? -1 : openat(current, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const int err = errno;
    if (current != root) close(current);
    if (next < 0) {
      errno = err;
      return -1;
    }
    current = next;
    path += n;
    if (*path == '/') ++path;
  }
  return current;
}

Result<UniqueFd> OpenBeneath(int root, const std::string& path, unsigned create_mode) {
  UniqueFd fd(OpenDirectoryBeneath(root, path.empty() ? "." : path.c_str()));
  if (fd) return fd;
  if (errno != ENOENT || create_mode == 0) return Error(Status::FromErrno("open \"" + path + "\""));
  const size_t slash = path.rfind('/');
  const std::string leaf = path.substr(slash == std::string::npos ? 0 : slash + 1);
  ASSIGN_OR_RETURN(const UniqueFd parent,
                   OpenBeneath(root, slash == std::string::npos ? "" : path.substr(0, slash), create_mode));
  if (mkdirat(parent.get(), leaf.c_str(), create_mode) != 0 && errno != EEXIST) {
    return Error(Status::FromErrno("make \"" + path + "\""));
  }
  fd = UniqueFd(openat(parent.get(), leaf.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return Error(Status::FromErrno("open \"" + path + "\""));
  return fd;
}

}  // namespace moorfs::mount
