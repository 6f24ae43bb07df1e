// Groups of processes on this machine. Each test starts this program again, once per rank, to play a scenario.
#include "pgolf/dist/group.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/ranks.h"

namespace pgolf::testing {
namespace {

at::Tensor rank_values(int rank, int64_t count, at::ScalarType dtype) {
  return ((torch::arange(count) % 7 + rank) / 8).to(dtype);
}

void sums(Group& group) {
  const int size = group.world_size();
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    // More than one bucket, a part of one, nothing; a view that is not contiguous.
    const int64_t most = dtype == at::kFloat ? 9'000'000 : 1000;
    std::vector<at::Tensor> tensors{rank_values(group.rank(), most, dtype), rank_values(group.rank(), 5, dtype),
                                    torch::empty({0}, dtype), rank_values(group.rank(), 12, dtype).view({3, 4}).t()};
    group.sum_(tensors);
    for (const auto& tensor : tensors) {
      auto expected = torch::zeros({tensor.numel()}, at::kDouble);
      for (int rank = 0; rank < size; ++rank) expected += rank_values(rank, tensor.numel(), dtype).to(at::kDouble);
      const auto got = tensor.dim() == 2 ? tensor.t().reshape({-1}) : tensor;
      require(at::equal(got.to(at::kDouble), expected), "sum of " + std::to_string(tensor.numel()));
    }
  }
  std::vector<at::Tensor> rounded{torch::full({3}, 1.0f + 1.0f / 512)};
  group.sum_(rounded, at::kBFloat16);
  require(rounded[0].scalar_type() == at::kFloat && at::equal(rounded[0], torch::full({3}, static_cast<float>(size))),
          "bfloat16");
}

void broadcasts(Group& group) {
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 7; ++i) tensors.push_back(torch::full({i, 3}, group.rank(), i % 2 == 0 ? at::kFloat : at::kBFloat16));
  const auto owner = [&](size_t i) { return static_cast<int>(i) % group.world_size(); };
  group.broadcast_(tensors, owner);
  for (size_t i = 0; i < tensors.size(); ++i)
    require(tensors[i].eq(owner(i)).all().item<bool>(), "owner of " + std::to_string(i));
  group.broadcast_(tensors);
  require(group.broadcast(group.is_master() ? "rank 0's words" : "others") == "rank 0's words", "text");
  require(group.broadcast(group.is_master() ? "" : "others").empty(), "no text");
}

void host_values(Group& group) {
  const double rank = group.rank(), last = group.world_size() - 1;
  require(group.sum({1, rank, 1e300}) == std::vector<double>{last + 1, last * (last + 1) / 2, (last + 1) * 1e300}, "sum");
  require(group.max({rank, -rank, 5}) == std::vector<double>{last, 0, 5}, "max");
  group.barrier();
}

void equality(Group& group) {
  const auto same = torch::arange(100), other = torch::full({2}, group.rank() == 1 ? 1.0f : 0.0f);
  group.require_equal({{"same", same}});
  group.require_equal({{"same", same}, {"another", other}});
}

/// Rank 1 ends or hangs, the others wait for it in a collective.
void loss(Group& group) {
  const std::string how = std::getenv("HOW");
  if (group.rank() == std::atoi(std::getenv("WHO"))) {
    if (how == "kill") ::raise(SIGKILL);
    if (how == "stop") ::raise(SIGSTOP);
    if (how == "error") throw Error(ExitCode::io, "the disk of this rank is full");
  }
  group.barrier();
}

void unanimous_error(Group& group) {
  group.barrier();
  throw Error(ExitCode::non_finite, "train_loss is nan");
}

const bool kAdded = add_scenario("sums", sums) && add_scenario("broadcasts", broadcasts) &&
                    add_scenario("host_values", host_values) && add_scenario("equality", equality) &&
                    add_scenario("loss", loss) && add_scenario("unanimous_error", unanimous_error);

void expect_all_ok(int size, const std::string& scenario) {
  for (const auto& result : Ranks(size, scenario).wait()) EXPECT_EQ(result.code, 0) << scenario << ": " << result.err;
}

class Groups : public ::testing::TestWithParam<int> {};
TEST_P(Groups, Sum) {
  expect_all_ok(GetParam(), "sums");
}
TEST_P(Groups, Broadcast) {
  expect_all_ok(GetParam(), "broadcasts");
}
TEST_P(Groups, HostValues) {
  expect_all_ok(GetParam(), "host_values");
}
INSTANTIATE_TEST_SUITE_P(Sizes, Groups, ::testing::Values(1, 2, 3, 4));

TEST(Group, AloneNeedsNobody) {
  Group group;
  auto tensor = torch::ones({3});
  group.sum_({tensor});
  group.broadcast_({tensor});
  EXPECT_TRUE(at::equal(tensor, torch::ones({3})));
  EXPECT_EQ(group.sum({2})[0], 2);
  EXPECT_EQ(group.broadcast("text"), "text");
  EXPECT_STREQ(group.backend(), "none");
  group.leave(Error(ExitCode::io, "x"));
  group.finish();
}

TEST(Group, FindsTensorsThatDiffer) {
  const auto results = Ranks(3, "equality").wait();
  for (const auto& result : results) EXPECT_EQ(result.code, static_cast<int>(ExitCode::internal));
  EXPECT_NE(results[0].err.find("another differs between ranks"), std::string::npos) << results[0].err;
}

TEST(Group, OneRankTellsWhatAllFound) {
  const auto results = Ranks(3, "unanimous_error").wait();
  for (const auto& result : results) EXPECT_EQ(result.code, static_cast<int>(ExitCode::non_finite));
  EXPECT_NE(results[0].err.find("train_loss is nan"), std::string::npos) << results[0].err;
  EXPECT_EQ(results[1].err + results[2].err, "");
}

struct Loss {
  std::string how;
  int who;
  std::string said;
};
void PrintTo(const Loss& loss, std::ostream* out) {
  *out << loss.how << " of rank " << loss.who;
}

class Losses : public ::testing::TestWithParam<Loss> {};
TEST_P(Losses, AreNamed) {
  const std::string how = GetParam().how, said = GetParam().said;
  const int who = GetParam().who;
  Ranks ranks(3, "loss", {{"HOW", how}, {"WHO", std::to_string(who)}});
  std::vector<ProgramResult> results(3);
  for (int rank = 0; rank < 3; ++rank) {
    if (rank != who || how != "stop") results[static_cast<size_t>(rank)] = ranks.wait_for(rank);
  }
  int named = 0;
  for (int rank = 0; rank < 3; ++rank) {
    const auto& [code, out, err] = results[static_cast<size_t>(rank)];
    if (rank != who) {
      EXPECT_EQ(code, static_cast<int>(ExitCode::peer_lost)) << err;
    }
    named += err.find(said) != std::string::npos ? 1 : 0;
  }
  EXPECT_GE(named, 1) << results[0].err << results[1].err << results[2].err;
}
INSTANTIATE_TEST_SUITE_P(Group, Losses,
                         ::testing::Values(Loss{"kill", 1, "rank 1 (pid"}, Loss{"kill", 0, "rank 0 (pid"},
                                           Loss{"stop", 2, "rank 2 (pid"}, Loss{"stop", 0, "rank 0 (pid"},
                                           Loss{"error", 1, "ended: the disk of this rank is full"},
                                           Loss{"error", 0, "the disk of this rank is full"}));

}  // namespace
}  // namespace pgolf::testing

int main(int argc, char** argv) {
  return pgolf::testing::main_with_scenarios(argc, argv);
}
