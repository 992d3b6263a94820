// SPDX-License-Identifier: Apache-2.0

#include "common/http/curl_library.h"

#include <dlfcn.h>

#include <string>

namespace moorfs::http {
namespace {

constexpr char kName[] = "libcurl.so.4";
CurlLibrary library;

Status Load() {
  // Lazy: most of its libraries' functions (LDAP, SSH, …) are never called.
  void* handle = ::dlopen(kName, RTLD_LAZY | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* why = ::dlerror();
    return Status(ENOENT, std::string("load ") + kName + ": " + (why != nullptr ? why : "unknown cause") +
                              "; install the package libcurl4");
  }
#define MOORFS_CURL_LOOK_UP(name)                                                                \
  library.name = reinterpret_cast<decltype(library.name)>(::dlsym(handle, "curl_" #name));      \
  if (library.name == nullptr) return Status(ENOENT, std::string("load ") + kName + ": it has no curl_" #name);
  MOORFS_CURL_FUNCTIONS(MOORFS_CURL_LOOK_UP)
#undef MOORFS_CURL_LOOK_UP
  if (const CURLcode code = library.global_init(CURL_GLOBAL_DEFAULT); code != CURLE_OK) {
    return Status(EIO, std::string("initialize libcurl: ") + library.easy_strerror(code));
  }
  return {};
}

}  // namespace

Status LoadCurl() {
  static const Status loaded = Load();
  return loaded;
}

const CurlLibrary& Curl() { return library; }

}  // namespace moorfs::http
