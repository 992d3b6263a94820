// SPDX-License-Identifier: Apache-2.0
//
// libcurl, loaded by the first client that is made. One binary plays every role;
// linked to it, libcurl and the 25 libraries behind it would cost each file
// system client and each keeper 1.2 MB of memory and 15 ms of its start, though
// only the node agent and the controller speak HTTP.

#pragma once

#include <curl/curl.h>

#include "common/base/status.h"

namespace moorfs::http {

#define MOORFS_CURL_FUNCTIONS(X)                                                                                 \
  X(global_init) X(easy_init) X(easy_cleanup) X(easy_reset) X(easy_setopt) X(easy_getinfo) X(easy_perform)       \
  X(easy_strerror) X(slist_append) X(slist_free_all) X(multi_init) X(multi_cleanup) X(multi_add_handle)          \
  X(multi_remove_handle) X(multi_perform) X(multi_info_read) X(multi_poll) X(multi_strerror)

struct CurlLibrary {
#define MOORFS_CURL_MEMBER(name) decltype(&::curl_##name) name = nullptr;
  MOORFS_CURL_FUNCTIONS(MOORFS_CURL_MEMBER)
#undef MOORFS_CURL_MEMBER
};

// Once for the process. ENOENT names the package.
Status LoadCurl();
// After LoadCurl() was OK.
const CurlLibrary& Curl();

}  // namespace moorfs::http
