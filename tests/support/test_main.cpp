// GoogleTest's main, without the destructors of LibTorch's static objects: a third of the time of a small test.
#include <gtest/gtest.h>

#include "files.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  return pgolf::testing::TempFolder::end_tests(RUN_ALL_TESTS());
}
