// SPDX-License-Identifier: Apache-2.0

#include "csi/call.h"

#include <chrono>
#include <exception>

#include "common/base/units.h"
#include "common/log/log.h"
#include "csi/codes.h"

namespace moorfs::csi {
namespace {

// For the answer to reach a caller that waits no longer than its deadline.
constexpr int kAnswerMarginMs = 500;

Status Guarded(const char* method, const std::function<Status()>& work) {
  try {
    return work();
  } catch (const std::exception& e) {
    return Status(EFAULT, std::string("serve ") + method + ": " + e.what());
  }
}

}  // namespace

int BudgetMs(const grpc::ServerContext& context, int longest) {
  using std::chrono::system_clock;
  const auto deadline = context.deadline();
  const auto now = system_clock::now();
  if (deadline - now > std::chrono::milliseconds(longest) + std::chrono::milliseconds(kAnswerMarginMs)) return longest;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - now).count();
  return static_cast<int>(left > 2 * kAnswerMarginMs ? left - kAnswerMarginMs : left / 2);
}

grpc::Status RunCall(CallObserver& observer, const char* method, const std::function<Status()>& work) {
  const int64_t begun = MonotonicNs();
  const Status status = Guarded(method, work);
  const grpc::Status answer = ToGrpc(status);
  const double seconds = static_cast<double>(MonotonicNs() - begun) / 1e9;
  observer.Observe(method, NameOf(answer.error_code()), seconds);
  if (answer.ok()) {
    LOG_DEBUG("csi") << method << " in " << seconds << " s";
  } else {
    LOG_WARNING("csi") << method << " answers " << NameOf(answer.error_code()) << " after " << seconds << " s: "
                       << answer.error_message() << " errno=" << ErrnoName(status.err());
  }
  return answer;
}

}  // namespace moorfs::csi
