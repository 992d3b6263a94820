// SPDX-License-Identifier: Apache-2.0
//
// `moorfs csi METHOD [JSON]`: one call to a CSI socket by hand, as an operator
// debugs a driver: the request is the specification's message in protobuf's
// JSON form, the answer is printed the same way. Knows every method of the
// three services through their descriptors. A request read from standard input
// keeps secrets out of the process list.

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <future>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "common/base/text.h"
#include "csi/proto/csi.pb.h"
#include "csi/codes.h"
#include "csi/roles.h"
#include "csi/unix_server.h"

// Of the generated library.
extern "C" const unsigned char csi_proto_descriptors[];
extern "C" const unsigned long csi_proto_descriptors_size;

namespace moorfs::csi {
namespace {

namespace pb = google::protobuf;

constexpr int kUsageError = 2;
constexpr char kExample[] =
    "Examples:\n"
    "  moorfs csi NodeGetInfo\n"
    "  moorfs csi NodePublishVolume - <request.json\n"
    "  moorfs csi NodePublishVolume '{\"volume_id\":\"main#a\",\"target_path\":\"/var/lib/kubelet/…\",\n"
    "    \"volume_capability\":{\"mount\":{},\"access_mode\":{\"mode\":\"MULTI_NODE_MULTI_WRITER\"}}}'\n";

// Takes the specification's own options ("alpha", "secret") off: the generated
// code knows them without descriptors, and reflection would trip over them.
void StripOptions(pb::EnumDescriptorProto* type) {
  type->clear_options();
  for (auto& value : *type->mutable_value()) value.clear_options();
}
void StripOptions(pb::DescriptorProto* type) {
  const bool is_map = type->options().map_entry();
  type->clear_options();
  if (is_map) type->mutable_options()->set_map_entry(true);
  for (auto& field : *type->mutable_field()) field.clear_options();
  for (auto& nested : *type->mutable_nested_type()) StripOptions(&nested);
  for (auto& nested : *type->mutable_enum_type()) StripOptions(&nested);
}
void StripOptions(pb::FileDescriptorProto* file) {
  file->clear_options();
  for (auto& type : *file->mutable_message_type()) StripOptions(&type);
  for (auto& type : *file->mutable_enum_type()) StripOptions(&type);
  for (auto& service : *file->mutable_service()) {
    for (auto& method : *service.mutable_method()) method.clear_options();
  }
}

// The specification's messages and methods, read from their descriptors. The
// generated code has none: every role would pay for them at its start.
class Schema {
 public:
  Schema() {
    pb::FileDescriptorSet files;
    files.ParseFromArray(csi_proto_descriptors, static_cast<int>(csi_proto_descriptors_size));
    for (auto& file : *files.mutable_file()) {
      StripOptions(&file);
      pool_.BuildFile(file);
    }
  }
  const pb::MethodDescriptor* FindMethod(const std::string& name) const {
    for (const auto* service : Services()) {
      if (const auto* method = service->FindMethodByName(name)) return method;
    }
    return nullptr;
  }
  std::string MethodNames() const {
    std::string out;
    for (const auto* service : Services()) {
      for (int i = 0; i < service->method_count(); ++i) out += (out.empty() ? "" : ", ") + service->method(i)->name();
    }
    return out;
  }
  std::unique_ptr<pb::Message> NewMessage(const pb::Descriptor* type) {
    return std::unique_ptr<pb::Message>(factory_.GetPrototype(type)->New());
  }

 private:
  std::vector<const pb::ServiceDescriptor*> Services() const {
    std::vector<const pb::ServiceDescriptor*> out;
    for (const char* name : {"csi.v1.Identity", "csi.v1.Node", "csi.v1.Controller"}) {
      if (const auto* service = pool_.FindServiceByName(name)) out.push_back(service);
    }
    return out;
  }
  pb::DescriptorPool pool_;
  pb::DynamicMessageFactory factory_{&pool_};
};

grpc::Status CallUnary(const std::string& socket, const pb::MethodDescriptor& method, const std::string& request,
                       int timeout_s, std::string* response) {
  grpc::ChannelArguments arguments;
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  const auto channel =
      grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments);
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(timeout_s));
  const grpc::Slice slice(request);
  const grpc::ByteBuffer sent(&slice, 1);
  grpc::ByteBuffer received;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, "/" + method.service()->full_name() + "/" + method.name(), {}, &sent, &received,
                 [&](grpc::Status status) { done.set_value(std::move(status)); });
  grpc::Status status = done.get_future().get();
  std::vector<grpc::Slice> slices;
  if (status.ok() && received.Dump(&slices).ok()) {
    for (const grpc::Slice& part : slices) response->append(reinterpret_cast<const char*>(part.begin()), part.size());
  }
  return status;
}

int Ask(const std::string& endpoint, const std::string& name, std::string json, int timeout_s) {
  const auto complain = [&](const std::string& what, int exit_code) {
    std::fprintf(stderr, "moorfs csi %s: %s\n", Printable(name).c_str(), Printable(what).c_str());
    return exit_code;
  };
  Schema schema;
  const pb::MethodDescriptor* method = schema.FindMethod(name);
  if (method == nullptr) return complain("no such method; known are " + schema.MethodNames(), kUsageError);
  const auto socket = SocketPathOf(endpoint);
  if (!socket) return complain(socket.error().message(), kUsageError);
  if (json == "-") json.assign(std::istreambuf_iterator<char>(std::cin), {});

  const auto request = schema.NewMessage(method->input_type());
  if (const auto read = pb::util::JsonStringToMessage(json, request.get()); !read.ok()) {
    // protobuf's own words could quote a value, and that may be a secret.
    return complain("the request is no JSON form of csi.v1." + method->input_type()->name() +
                        ": check its names and types against the specification",
                    kUsageError);
  }
  std::string answer;
  const grpc::Status status = CallUnary(*socket, *method, request->SerializeAsString(), timeout_s, &answer);
  if (!status.ok()) return complain(std::string(NameOf(status.error_code())) + ": " + status.error_message(), 1);
  const auto response = schema.NewMessage(method->output_type());
  if (!response->ParseFromString(answer)) return complain("the answer is no " + method->output_type()->name(), 1);
  pb::util::JsonPrintOptions print;
  print.preserve_proto_field_names = true;
  std::string text;
  if (!pb::util::MessageToJsonString(*response, &text, print).ok()) return complain("the answer cannot be printed", 1);
  std::printf("%s\n", text.c_str());
  return 0;
}

}  // namespace

int AskMain(int argc, char** argv) {
  CLI::App app("One call to a CSI socket by hand.", "moorfs csi");
  app.footer(kExample);
  std::string endpoint = "unix:///var/lib/kubelet/plugins/csi.moorfs.io/csi.sock", method, json = "{}";
  int timeout_s = 120;
  app.add_option("METHOD", method, "NodePublishVolume, CreateVolume, …")->required();
  app.add_option("JSON", json, "The request; '-' reads it from standard input")->capture_default_str();
  app.add_option("--endpoint", endpoint, "The CSI socket")
      ->envname("CSI_ENDPOINT")->type_name("unix:///PATH")->capture_default_str();
  app.add_option("--timeout", timeout_s, "Seconds to wait for the answer")
      ->type_name("N")->check(CLI::Range(1, 3600))->capture_default_str();
  try {
    app.parse(argc - 1, argv + 1);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : kUsageError;
  }
  return Ask(endpoint, method, json, timeout_s);
}

}  // namespace moorfs::csi
