// SPDX-License-Identifier: Apache-2.0

#include "installer/full.h"

#include <dlfcn.h>
#include <elf.h>
#include <limits.h>
#include <link.h>
#include <unistd.h>

#include <map>
#include <sstream>

#include "common/base/text.h"
#include "common/base/version.h"
#include "installer/files.h"
#include "installer/programs.h"

namespace moorfs::installer {
namespace {

constexpr size_t kHashDigits = 12;
constexpr char kLoadedLater[] = "libcurl.so.4";
constexpr const char* kHelpers[] = {"mount.moorfs", "umount.moorfs", "umount.fuse.moorfs"};

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

int AddObject(dl_phdr_info* info, size_t, void* out) {
  // The program has no name here, the kernel's own object no path.
  if (info->dlpi_name == nullptr || info->dlpi_name[0] != '/') return 0;
  static_cast<std::vector<std::string>*>(out)->push_back(info->dlpi_name);
  return 0;
}

template <typename T>
bool ReadAt(const std::string& bytes, size_t at, T* out) {
  if (at > bytes.size() || bytes.size() - at < sizeof *out) return false;
  bytes.copy(reinterpret_cast<char*>(out), sizeof *out, at);
  return true;
}

struct InterpreterHeader {
  size_t at = 0;  // in the file
  Elf64_Phdr phdr;
};
Result<InterpreterHeader> FindInterpreter(const std::string& elf) {
  Elf64_Ehdr header;
  if (!ReadAt(elf, 0, &header) || !elf.starts_with(ELFMAG) || header.e_ident[EI_CLASS] != ELFCLASS64) {
    return Error(ENOEXEC, "read the program: it is no 64-bit ELF file");
  }
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    InterpreterHeader found{.at = header.e_phoff + i * sizeof(Elf64_Phdr)};
    if (!ReadAt(elf, found.at, &found.phdr)) break;
    if (found.phdr.p_type == PT_INTERP) return found;
  }
  return Error(ENOEXEC, "read the program: it names no loader, so it is static already");
}

// The loader as the program names it: the file that stands for it is among the libraries.
Result<std::string> InterpreterOf(const std::string& elf) {
  ASSIGN_OR_RETURN(const InterpreterHeader found, FindInterpreter(elf));
  const size_t at = found.phdr.p_offset, size = found.phdr.p_filesz;
  if (at > elf.size() || size == 0 || elf.size() - at < size) return Error(ENOEXEC, "read the program: it is cut off");
  return elf.substr(at, size - 1);
}

Item FileItem(std::string path, std::string content) {
  Item item{.path = std::move(path), .kind = Entry::Kind::kFile, .content = std::move(content)};
  item.value = Sha256(item.content);
  return item;
}

Item LinkItem(std::string path, const std::string& target) {
  return {.path = std::move(path), .kind = Entry::Kind::kLink, .content = target, .value = target};
}

}  // namespace

Status SetInterpreter(std::string* elf, const std::string& path) {
  if (path.size() + 1 > PATH_MAX) return Status(ENAMETOOLONG, "set the loader: its path is too long: " + path);
  ASSIGN_OR_RETURN_STATUS(InterpreterHeader found, FindInterpreter(*elf));
  // The kernel reads the path from the file, the loader its own name from memory: so the new path
  // goes to the end of the file, and p_vaddr stays.
  found.phdr.p_offset = elf->size();
  found.phdr.p_filesz = path.size() + 1;
  elf->replace(found.at, sizeof found.phdr, reinterpret_cast<const char*>(&found.phdr), sizeof found.phdr);
  elf->append(path.c_str(), path.size() + 1);
  return Status::Ok();
}

Result<FullPlan> PlanFull(const std::string& directory, const std::string& sbin) {
  ASSIGN_OR_RETURN(std::string program, ReadProgram("/proc/self/exe"));
  ASSIGN_OR_RETURN(const std::string interpreter, InterpreterOf(program));
  // Loaded by the first HTTP call only, so it may not be there yet. Without it this program has no HTTP,
  // and the installed one is no worse.
  dlopen(kLoadedLater, RTLD_LAZY | RTLD_LOCAL);
  std::vector<std::string> objects;
  dl_iterate_phdr(AddObject, &objects);
  std::map<std::string, std::string> contents;
  std::string hashes = Sha256(program);
  for (const std::string& object : objects) {
    ASSIGN_OR_RETURN(std::string& content = contents[BaseName(object)], ReadProgram(object));
    hashes += BaseName(object) + Sha256(content);
  }
  FullPlan plan{.directory = directory};
  const std::string name = std::string(kVersion) + "-" + Sha256(hashes).substr(0, kHashDigits);
  plan.version_dir = directory + "/" + name;
  const std::string lib = plan.version_dir + "/lib/moorfs/";
  plan.loader = lib + BaseName(interpreter);
  plan.program = plan.version_dir + "/bin/moorfs";
  if (contents.count(BaseName(interpreter)) == 0) {
    return Error(ENOENT, "find the loader " + interpreter + ": it is not among the loaded objects");
  }
  for (auto& [file, content] : contents) plan.files.push_back(FileItem(lib + file, std::move(content)));
  TRY_VOID(SetInterpreter(&program, plan.loader));
  plan.files.push_back(FileItem(plan.program, std::move(program)));
  plan.bin = LinkItem(directory + "/bin", name + "/bin");
  if (sbin != "none") {
    for (const char* helper : kHelpers) {
      plan.helpers.push_back(LinkItem(sbin + "/" + helper, directory + "/bin/moorfs"));
    }
  }
  return plan;
}

std::string VersionOfBin(const std::string& link_target) {
  const size_t slash = link_target.find('/');
  if (slash == std::string::npos || link_target.substr(slash) != "/bin") return "";
  const size_t dash = link_target.rfind('-', slash);
  return dash == std::string::npos ? "" : link_target.substr(0, dash);
}

Status CheckFull(const Host& host, const FullPlan& plan) {
  ASSIGN_OR_RETURN_STATUS(const std::string loader, host.Resolve(plan.loader));
  ASSIGN_OR_RETURN_STATUS(const std::string program, host.Resolve(plan.program));
  ASSIGN_OR_RETURN_STATUS(const std::string home, host.Resolve(plan.version_dir));
  ASSIGN_OR_RETURN_STATUS(const std::string list, RunProgram({loader, "--list", program}));
  std::istringstream lines(list);
  for (std::string line; std::getline(lines, line);) {
    const size_t arrow = line.find("=> ");
    if (arrow == std::string::npos || line.compare(arrow + 3, home.size(), home) == 0) continue;
    return Status(ENOEXEC, "check " + program + ": it would load a library of the host:" + Printable(line) +
                               "; this build lacks the search path $ORIGIN/../lib/moorfs");
  }
  ASSIGN_OR_RETURN_STATUS(const std::string version, RunProgram({loader, program, "--version"}));
  if (version != "moorfs " + std::string(kVersion) + "\n") {
    return Status(EPROTO, "check " + program + ": it says \"" + Printable(version) + "\" for its version");
  }
  return Status::Ok();
}

}  // namespace moorfs::installer
