// SPDX-License-Identifier: Apache-2.0
//
// What a scrape shows: the calls by method and code, and numbers that a role
// computes at the moment of the scrape. The only file pair that knows the
// metrics library.

#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace moorfs::csi {

class CallObserver {
 public:
  virtual ~CallObserver() = default;
  // `method` and `code` are from fixed sets: labels stay bounded.
  virtual void Observe(const char* method, const char* code, double seconds) = 0;
};

// A number read at the scrape.
struct Gauge {
  const char* name;
  const char* help;
  bool counter;  // only ever grows
  double value;
};

class Metrics : public CallObserver {
 public:
  // `role` is a label of the build's line; `gauges` is called at each scrape.
  Metrics(std::string role, std::function<std::vector<Gauge>()> gauges);
  ~Metrics() override;
  void Observe(const char* method, const char* code, double seconds) override;
  // Prometheus' text format 0.0.4.
  std::string Text();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moorfs::csi
