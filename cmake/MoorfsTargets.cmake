# SPDX-License-Identifier: Apache-2.0
#
# moorfs_library(NAME SRCS ... DEPS ...)  one static library per folder
# moorfs_test(NAME SRCS ... DEPS ...)     a Catch2 binary, registered with ctest under the label
#                                         of its folder below test/ (unit, contract, ...)
#
# Compiler settings live in the interface target moorfs_flags and nowhere else.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
# -g1: a backtrace from the field has line numbers.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
# The sanitizer presets: assertions stay on.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g1")

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
find_program(LLD_PROGRAM ld.lld)
if(LLD_PROGRAM)
  add_link_options(-fuse-ld=lld)
endif()
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

add_library(moorfs_flags INTERFACE)
target_include_directories(moorfs_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(moorfs_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow=local
  -Wnon-virtual-dtor -Woverloaded-virtual -Wno-missing-field-initializers -fno-omit-frame-pointer)
target_compile_definitions(moorfs_flags INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64 FUSE_USE_VERSION=312
  MOORFS_VERSION="${PROJECT_VERSION}")
target_link_libraries(moorfs_flags INTERFACE Threads::Threads)
if(MOORFS_SANITIZE)
  if(MOORFS_SANITIZE STREQUAL "address")
    set(san -fsanitize=address,undefined -fno-sanitize-recover=undefined)
  elseif(MOORFS_SANITIZE STREQUAL "thread")
    # GCC warns that it does not model std::atomic_thread_fence; the code orders by atomics, not fences.
    set(san -fsanitize=thread -Wno-tsan)
  else()
    message(FATAL_ERROR "MOORFS_SANITIZE=${MOORFS_SANITIZE}: known are address and thread")
  endif()
  target_compile_options(moorfs_flags INTERFACE ${san})
  target_link_options(moorfs_flags INTERFACE ${san})
  target_compile_definitions(moorfs_flags INTERFACE MOORFS_SANITIZE_${MOORFS_SANITIZE})
endif()

# Sets `missing` in the caller to the first source that does not exist yet. The target is then
# left out with a warning, so that one folder in the making does not stop the others' builds.
macro(moorfs_find_missing name)
  set(missing "")
  foreach(src ${ARGN})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${src} AND NOT IS_ABSOLUTE ${src})
      set(missing ${src})
    endif()
  endforeach()
  if(missing)
    message(WARNING "target ${name} left out: no ${CMAKE_CURRENT_SOURCE_DIR}/${missing}")
  endif()
endmacro()

function(moorfs_library name)
  cmake_parse_arguments(A "" "" "SRCS;DEPS" ${ARGN})
  moorfs_find_missing(${name} ${A_SRCS})
  if(missing)
    return()
  endif()
  add_library(${name} STATIC ${A_SRCS})
  target_link_libraries(${name} PUBLIC moorfs_flags ${A_DEPS})
endfunction()

function(moorfs_test name)
  cmake_parse_arguments(A "" "" "SRCS;DEPS" ${ARGN})
  moorfs_find_missing(${name} ${A_SRCS})
  if(missing)
    return()
  endif()
  add_executable(${name} ${A_SRCS})
  target_link_libraries(${name} PRIVATE moorfs_flags moorfs_test_main ${A_DEPS})
  add_test(NAME ${name} COMMAND ${name})
  file(RELATIVE_PATH folder ${CMAKE_SOURCE_DIR}/test ${CMAKE_CURRENT_SOURCE_DIR})
  string(REGEX REPLACE "/.*" "" label "${folder}")
  set_tests_properties(${name} PROPERTIES TIMEOUT 600 LABELS "${label}")
endfunction()
