// SPDX-License-Identifier: Apache-2.0
//
// The static `moorfs-flex`: the door and nothing else.

#include "flex/door.h"

int main(int argc, char** argv) { return moorfs::flex::DoorMain(argc, argv, nullptr); }
