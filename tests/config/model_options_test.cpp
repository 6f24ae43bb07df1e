#include "pgolf/config/model_options.h"

#include <set>

#include "config_testing.h"
#include "pgolf/config/model_metadata.h"

namespace pgolf {
namespace {

using testing::train;

std::vector<ModelOption> all_options(StoredModel* stored, RopeRequest* rope) {
  auto options = shape_options(&stored->model);
  for (auto& option : rotary_options(&stored->model, rope)) options.push_back(std::move(option));
  options.push_back(train_seq_len_option(&stored->train_seq_len));
  return options;
}

bool is_stored(const ModelOption& option) {
  return option.stored != Stored::never && option.stored != Stored::as_another_option;
}

TEST(ModelOptions, ListsHaveOneOptionPerPosition) {
  StoredModel stored;
  RopeRequest rope;
  for (const auto list : {&ListPlaces::assumed, &ListPlaces::log, &ListPlaces::sweep}) {
    std::multiset<int> places;
    for (const auto& option : all_options(&stored, &rope)) {
      if (option.places.*list != 0) places.insert(option.places.*list);
    }
    int expected = 0;
    for (const int place : places) EXPECT_EQ(place, ++expected);
  }
}

TEST(ModelOptions, DefaultsInFilesAreUpstreams) {
  StoredModel stored;
  RopeRequest rope;
  for (const auto& option : all_options(&stored, &rope)) {
    // Inferable options need no default.
    if (!is_stored(option) || (option.inferable && option.stored == Stored::always)) continue;
    EXPECT_EQ(option.default_in_files, option.value.default_text) << option.name;
  }
}

TEST(ModelOptions, FilesContainEveryStoredOption) {
  StoredModel stored;
  RopeRequest rope;
  const ModelMetadata metadata = model_metadata(stored.model, stored.train_seq_len);
  const ModelMetadata in_file = metadata_for_file(stored);
  for (const auto& option : all_options(&stored, &rope)) {
    EXPECT_EQ(metadata.contains(option.name), is_stored(option)) << option.name;
    EXPECT_EQ(in_file.contains(option.name), is_stored(option) && option.stored != Stored::if_not_default) << option.name;
  }
}

TEST(ModelOptions, FilesSayWhichTokenizer) {
  StoredModel stored;
  ModelMetadata metadata = metadata_for_file(stored);
  EXPECT_FALSE(metadata.contains("TOKENIZER")) << "unknown";
  stored.tokenizer = "0123456789abcdef";
  metadata = metadata_for_file(stored);
  EXPECT_EQ(metadata.at("TOKENIZER"), stored.tokenizer);
  EXPECT_EQ(read_model_metadata(metadata, "file").tokenizer, stored.tokenizer);
  metadata.erase("TOKENIZER");
  EXPECT_EQ(read_model_metadata(metadata, "file").tokenizer, "");
}

TEST(ModelOptions, FilesMayLackADefault) {
  const ModelOption option{.name = "LATER", .value = {}, .stored = Stored::if_not_default, .default_in_files = "0"};
  EXPECT_FALSE(option.goes_into_files("0"));
  EXPECT_TRUE(option.goes_into_files("1"));
  EXPECT_TRUE((ModelOption{.name = "EARLIER", .value = {}, .default_in_files = "0"}.goes_into_files("0")));
}

TEST(ModelOptions, FilesFromBeforeAnOptionAreRead) {
  const ModelMetadata full = model_metadata(ModelConfig(), 64);
  StoredModel stored;
  RopeRequest rope;
  for (const auto& option : all_options(&stored, &rope)) {
    if (!is_stored(option)) continue;
    ModelMetadata without = full;
    without.erase(option.name);
    if (option.stored == Stored::always) {
      EXPECT_THROW(read_model_metadata(without, "file"), Error) << option.name;
      continue;
    }
    const StoredModel read = read_model_metadata(without, "file");
    EXPECT_EQ(model_metadata(read.model, read.train_seq_len), full) << option.name;
  }
}

TEST(ModelOptions, MetadataReadsBack) {
  const TrainCommand command = train({"--rope-layers=full*3,none",
                                      "--rope-style=interleaved",
                                      "--rope-select=high",
                                      "--rope-scaling=yarn",
                                      "--rope-scaling-factor=2",
                                      "--rope-original-seq-len=64",
                                      "--rope-table-dtype=bfloat16",
                                      "--qk-norm=0",
                                      "--mlp-kind=leaky_relu",
                                      "--mlp-leaky-slope=0.25",
                                      "--norm-weights",
                                      "--parallel-block",
                                      "--unet-skips=0",
                                      "--resid-mix=0",
                                      "--logit-softcap=0",
                                      "--mlp-mult=2.5",
                                      "--ln-scale",
                                      "--xsa-last-n=2",
                                      "--num-loops=2",
                                      "--loop-start=1",
                                      "--loop-end=3",
                                      "--parallel-residual-start=0",
                                      "--smear-gate",
                                      "--bigram-vocab-size=99",
                                      "--bigram-dim=80",
                                      "--ve-layers=2,5",
                                      "--ve-dim=16"});
  const ModelMetadata metadata = model_metadata(command.config.model, 77);
  for (const auto& [name, text] : metadata) {
    EXPECT_EQ(name == "TRAIN_SEQ_LEN" ? "77" : find_option(command.resolved, name).text, text) << name;
  }
  const StoredModel read = read_model_metadata(metadata, "file");
  EXPECT_EQ(read.train_seq_len, 77);
  EXPECT_EQ(model_metadata(read.model, 77), metadata);
}

TEST(ModelOptions, TheLogNamesNewerOptionsIfTheyAreSet) {
  EXPECT_EQ(shape_summary(train({}).resolved),
            "MLP_KIND=relu2 PARALLEL_BLOCK=0 NORM_WEIGHTS=0 UNET_SKIPS=1 RESID_MIX=1 LOGIT_SOFTCAP=30.0 INIT_STD=none");
  EXPECT_EQ(shape_summary(train({"--num-loops=1", "--loop-start=0", "--loop-end=2", "--ln-scale"}).resolved),
            "MLP_KIND=relu2 PARALLEL_BLOCK=0 NORM_WEIGHTS=0 UNET_SKIPS=1 RESID_MIX=1 LOGIT_SOFTCAP=30.0 INIT_STD=none LN_SCALE=1 "
            "NUM_LOOPS=1 LOOP_START=0 LOOP_END=2");
}

TEST(ModelOptions, FilesThatContradictThemselvesAreRefused) {
  const auto error = [](const std::map<std::string, std::string>& changes) {
    ModelMetadata metadata = metadata_for_file({ModelConfig(), 64, ""});
    for (const auto& [name, text] : changes) metadata[name] = text;
    const auto error = testing::error_of([&] { read_model_metadata(metadata, "file"); });
    return std::string(error ? error->what() : "");
  };
  EXPECT_CONTAINS(error({{"NUM_LOOPS", "1"}, {"LOOP_START", "7"}, {"LOOP_END", "9"}}),
                  "file: NUM_LOOPS=1, LOOP_START=7, LOOP_END=9, NUM_LAYERS=9: a loop needs a first and a last block");
  EXPECT_CONTAINS(error({{"PARALLEL_BLOCK", "1"}, {"PARALLEL_RESIDUAL_START", "2"}}), "both say which blocks are parallel");
  EXPECT_CONTAINS(error({{"SKIP_GATES_ENABLED", "1"}, {"UNET_SKIPS", "0"}}), "there are no skip connections to gate");
  EXPECT_CONTAINS(error({{"NUM_LAYERS", "2"}, {"ATTENTION_WINDOW", "8*3"}}), "3 values are more than the 2 layers");
  EXPECT_CONTAINS(error({{"MLP_MULT", "0.001"}}), "the MLP has no hidden unit");
}

TEST(ModelOptions, InferableOptionsAreNotAssumed) {
  StoredModel stored;
  EXPECT_EQ(assume_defaults(&stored).size(), 16u);
  stored.model.mlp_kind = MlpKind::swiglu;
  stored.model.norm_weights = stored.model.parallel_block = true;
  EXPECT_EQ(assume_defaults(&stored).size(), 14u);
  EXPECT_EQ(stored.model.mlp_kind, MlpKind::swiglu);
  EXPECT_TRUE(stored.model.parallel_block);
}

}  // namespace
}  // namespace pgolf
