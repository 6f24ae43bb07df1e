// GoogleTest's main, without the destructors of LibTorch's static objects: a third of the time of a small test.
#include <gtest/gtest.h>

#include "files.h"
#include "pgolf/base/error.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const int code = RUN_ALL_TESTS();
  pgolf::testing::TempFolder::remove_existing();
  return pgolf::end_program(code);
}
