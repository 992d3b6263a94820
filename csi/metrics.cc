// SPDX-License-Identifier: Apache-2.0

#include "csi/metrics.h"

#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "common/base/version.h"

namespace moorfs::csi {
namespace {

// From a repeat that changes nothing to a client's slow start.
const prometheus::Histogram::BucketBoundaries kSeconds = {0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 90};

prometheus::MetricFamily ToFamily(const Gauge& gauge) {
  prometheus::MetricFamily family;
  family.name = gauge.name;
  family.help = gauge.help;
  family.type = gauge.counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
  prometheus::ClientMetric metric;
  metric.gauge.value = metric.counter.value = gauge.value;
  family.metric.push_back(metric);
  return family;
}

}  // namespace

struct Metrics::Impl {
  prometheus::Registry registry;
  prometheus::Family<prometheus::Histogram>* calls = nullptr;
  std::function<std::vector<Gauge>()> gauges;
};

Metrics::Metrics(std::string role, std::function<std::vector<Gauge>()> gauges) : impl_(std::make_unique<Impl>()) {
  impl_->gauges = std::move(gauges);
  impl_->calls = &prometheus::BuildHistogram()
                      .Name("moorfs_csi_call_seconds")
                      .Help("Answered CSI calls by method and gRPC code")
                      .Register(impl_->registry);
  prometheus::BuildGauge()
      .Name("moorfs_build_info")
      .Help("Always 1; the labels are what runs")
      .Register(impl_->registry)
      .Add({{"role", std::move(role)}, {"version", MOORFS_VERSION}})
      .Set(1);
}
Metrics::~Metrics() = default;

void Metrics::Observe(const char* method, const char* code, double seconds) {
  impl_->calls->Add({{"method", method}, {"code", code}}, kSeconds).Observe(seconds);
}

std::string Metrics::Text() {
  std::vector<prometheus::MetricFamily> families = impl_->registry.Collect();
  if (impl_->gauges) {
    for (const Gauge& gauge : impl_->gauges()) families.push_back(ToFamily(gauge));
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace moorfs::csi
