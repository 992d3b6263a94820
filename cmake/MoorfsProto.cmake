# SPDX-License-Identifier: Apache-2.0
#
# moorfs_proto_library(NAME PROTOS a.proto ...)
#
# A static library of the code generated from .proto files (messages and gRPC
# services), and its headers; the files' descriptors are in it as bytes,
# NAME_descriptors, for who wants to read them at run time. gRPC, protobuf and Abseil are linked from their
# static archives: as shared libraries they are sixty, and every client and
# keeper of the one binary would pay for their relocations. The `unsecure` gRPC
# speaks over unix sockets only, which is all that is served.

find_program(PROTOC protoc)
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin)
if(NOT PROTOC OR NOT GRPC_CPP_PLUGIN)
  message(FATAL_ERROR "no protoc or grpc_cpp_plugin; apt-get install protobuf-compiler protobuf-compiler-grpc")
endif()
pkg_check_modules(GRPC REQUIRED grpc++_unsecure protobuf)

# The archives among what pkg-config names, each once, in a group (they refer to each other).
function(moorfs_static_grpc out)
  set(archives "")
  foreach(name protobuf ${GRPC_STATIC_LIBRARIES} address_sorting upb cares re2)
    if(name STREQUAL "rt")
      continue()
    endif()
    find_library(MOORFS_ARCHIVE_${name} NAMES lib${name}.a)
    mark_as_advanced(MOORFS_ARCHIVE_${name})
    if(MOORFS_ARCHIVE_${name})
      list(APPEND archives ${MOORFS_ARCHIVE_${name}})
    endif()
  endforeach()
  if(NOT MOORFS_ARCHIVE_grpc++_unsecure OR NOT MOORFS_ARCHIVE_protobuf)
    message(FATAL_ERROR "no static libgrpc++_unsecure.a or libprotobuf.a; apt-get install libgrpc++-dev")
  endif()
  list(REMOVE_DUPLICATES archives)
  set(${out} -Wl,--start-group ${archives} -Wl,--end-group z ${CMAKE_DL_LIBS} rt PARENT_SCOPE)
endfunction()

function(moorfs_proto_library name)
  cmake_parse_arguments(A "" "" "PROTOS" ${ARGN})
  set(out ${CMAKE_CURRENT_BINARY_DIR}/generated)
  file(MAKE_DIRECTORY ${out})
  set(sources "")
  set(paths "")
  set(depends "")
  foreach(proto ${A_PROTOS})
    # Included by the path from the root of the tree, as every header is.
    file(RELATIVE_PATH path ${CMAKE_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${proto})
    string(REGEX REPLACE "\\.proto$" "" stem ${out}/${path})
    set(made ${stem}.pb.cc ${stem}.grpc.pb.cc)
    # `lite`: no descriptors, whose registration would run at the start of every role.
    add_custom_command(
      OUTPUT ${made} ${stem}.pb.h ${stem}.grpc.pb.h
      COMMAND ${PROTOC} -I ${CMAKE_SOURCE_DIR} --cpp_out=lite:${out} --grpc_out=${out}
              --plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN} ${path}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${proto} VERBATIM)
    list(APPEND sources ${made})
    list(APPEND paths ${path})
    list(APPEND depends ${CMAKE_CURRENT_SOURCE_DIR}/${proto})
  endforeach()
  add_custom_command(
    OUTPUT ${out}/${name}_descriptors.cc
    COMMAND ${PROTOC} -I ${CMAKE_SOURCE_DIR} --include_imports --descriptor_set_out=${out}/${name}.desc ${paths}
    COMMAND ${CMAKE_COMMAND} -DIN=${out}/${name}.desc -DOUT=${out}/${name}_descriptors.cc -DSYMBOL=${name}_descriptors
            -P ${CMAKE_SOURCE_DIR}/cmake/EmbedFile.cmake
    DEPENDS ${depends} ${CMAKE_SOURCE_DIR}/cmake/EmbedFile.cmake VERBATIM)
  list(APPEND sources ${out}/${name}_descriptors.cc)
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} SYSTEM PUBLIC ${out})
  # Generated and large: not our warnings, nothing to debug; not instrumented by a sanitizer
  # either, as little as the archives are.
  target_compile_options(${name} PRIVATE -w -O1 -g0)
  moorfs_static_grpc(archives)
  target_link_libraries(${name} PUBLIC Threads::Threads ${archives})
  # lld then puts together what runs at a program's start, as GNU ld does by itself. Scattered
  # over the archives' ten megabytes, it would bring most of them into each process's memory.
  if(LLD_PROGRAM)
    target_link_options(${name} INTERFACE -Wl,-z,keep-text-section-prefix)
  endif()
endfunction()
