#include "pgolf/base/json_problem.h"

#include <gtest/gtest.h>

namespace pgolf::testing {
namespace {

TEST(JsonProblem, IsEmptyForValidText) {
  for (const char* text : {"{}", "1e308", "1e-999", "[18446744073709551616]"}) EXPECT_EQ(json_problem(text), "") << text;
}

TEST(JsonProblem, NumbersBeyondADoubleAreNamed) {
  EXPECT_EQ(json_problem(R"({"max_tokens": 1e400})"), "the number 1e400 is too large: beyond 1.8e308");
  EXPECT_EQ(json_problem("[-1e999]"), "the number -1e999 is too large: beyond 1.8e308");
  const std::string digits(400, '9');
  EXPECT_EQ(json_problem(digits), "the number " + digits.substr(0, 40) + "... is too large: beyond 1.8e308");
}

TEST(JsonProblem, HasItsPlaceWithoutTheLibrarysWords) {
  EXPECT_EQ(json_problem(R"({"a": NaN})"), "byte 6: NaN, which Python's json module writes, is not JSON");
  EXPECT_EQ(json_problem(R"({"a": )"), "it ends too early, after 6 bytes");
  EXPECT_EQ(json_problem("\"\xff\""), "byte 1 is not valid UTF-8");
}

}  // namespace
}  // namespace pgolf::testing
