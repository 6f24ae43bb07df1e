// GoogleTest's main, without the destructors of LibTorch's static objects: a third of the time of a small test.
#include <gtest/gtest.h>

#include "pgolf/base/error.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  return pgolf::end_program(RUN_ALL_TESTS());
}
