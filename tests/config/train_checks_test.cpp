// Combinations of options that train_gpt accepts or rejects.
#include "config_testing.h"

namespace pgolf {
namespace {

using testing::preset;
using testing::train;
using testing::train_error;

TEST(TrainChecks, OptionsWithoutEffectAreRejected) {
  EXPECT_CONTAINS(train_error({"--rope-scaling-factor=2"}),
                  "ROPE_SCALING_FACTOR=2.0 (flag --rope-scaling-factor), ROPE_SCALING=none");
  EXPECT_CONTAINS(train_error({"--rope-scaling=linear"}), "the scaling factor is missing");
  EXPECT_NO_THROW(train({"--rope-scaling=linear", "--rope-scaling-factor=1"})) << "the first arm of a sweep over factors";
  EXPECT_CONTAINS(train_error({"--rope-scaling=ntk", "--rope-scaling-factor=2", "--rope-original-seq-len=64"}),
                  "only ROPE_SCALING=yarn");
  EXPECT_CONTAINS(train_error({"--mlp-leaky-slope=0.1"}), "MLP_LEAKY_SLOPE=0.1 (flag --mlp-leaky-slope), MLP_KIND=relu2");
  EXPECT_CONTAINS(train_error({"--init-std=0.02", "--tied-embed-init-std=0.01"}), "both set the initial embedding");
  EXPECT_CONTAINS(train_error({"--init-std=0.02", "--orthogonal-init"}), "both set the initial matrices");
  EXPECT_CONTAINS(train_error({"--skip-gates-enabled", "--unet-skips=0"}), "there are no skip connections to gate");
  EXPECT_CONTAINS(train_error({"--weight-decay=0.1"}), "WEIGHT_DECAY=0.1 (flag --weight-decay), OPTIMIZER=muon");
  for (const char* flag :
       {"--muon-momentum=0.9", "--muon-momentum-warmup-start=0.5", "--muon-momentum-warmup-steps=7", "--muon-backend-steps=4",
        "--muon-dtype=float32", "--muon-row-normalize", "--muon-wd=0.1", "--embed-wd=0.1"}) {
    EXPECT_CONTAINS(train_error({"--optimizer=adamw", flag}), "OPTIMIZER=adamw");
  }
  for (const char* flag : {"--lr-warmup-frac=0.1", "--lr-min-scale=0.2"})
    EXPECT_CONTAINS(train_error({flag}), "LR_SCHEDULE=golf (default)");
  for (const char* flag : {"--warmdown-iters=5", "--warmdown-frac=0.5", "--min-lr=0.1"})
    EXPECT_CONTAINS(train_error({"--lr-schedule=cosine", flag}), "LR_SCHEDULE=cosine");
}

TEST(TrainChecks, TheOtherOptimizerScheduleAndInitialization) {
  const std::vector<std::string> flags = {"--optimizer=adamw",    "--weight-decay=0.1", "--lr-schedule=cosine",
                                          "--lr-warmup-frac=0.1", "--lr-min-scale=0.2", "--init-std=0.02"};
  const TrainCommand command = train(flags);
  EXPECT_EQ(command.config.optim.optimizer, OptimizerChoice::adamw);
  EXPECT_EQ(command.config.optim.weight_decay, 0.1);
  EXPECT_EQ(command.config.schedule.lr_schedule, LrSchedule::cosine);
  EXPECT_EQ(command.config.schedule.lr_warmup_frac, 0.1);
  EXPECT_EQ(command.config.schedule.lr_min_scale, 0.2);
  EXPECT_EQ(command.config.model.init_std, 0.02);
  ASSERT_EQ(command.warnings.size(), 1u);
  EXPECT_CONTAINS(command.warnings[0], "MATRIX_LR=0.04 is Muon's default");
  auto with_rate = flags;
  with_rate.push_back("--matrix-lr=0.001");
  EXPECT_TRUE(train(with_rate).warnings.empty());
}

TEST(TrainChecks, OptionsOfTheQuantizer) {
  EXPECT_CONTAINS(train_error({"--matrix-bits=5"}),
                  "MATRIX_BITS=5 (flag --matrix-bits), QUANTIZER=int8 (default): no effect with this QUANTIZER");
  for (const char* flag :
       {"--embed-bits=7", "--gptq-clip=search", "--matrix-clip-sigmas=10", "--embed-clip-sigmas=10", "--hessian-clip-lambda=0.1",
        "--gptq-calibration=self", "--gptq-calibration-batches=3", "--fit-budget=1"}) {
    EXPECT_CONTAINS(train_error({flag}), "QUANTIZER=int8 (default)");
    EXPECT_NO_THROW(train({"--quantizer=gptq", flag})) << flag;
  }
  for (const char* flag :
       {"--embed-bits=7", "--matrix-clip-sigmas=10", "--embed-clip-sigmas=10", "--hessian-clip-lambda=0.1", "--fit-budget=1"}) {
    EXPECT_CONTAINS(train_error({"--quantizer=gptq", "--gptq-clip=search", flag}), "GPTQ_CLIP=search (flag --gptq-clip)");
  }
  EXPECT_CONTAINS(train_error({"--quantizer=gptq", "--tie-embeddings=0"}), "a separate output head");
  EXPECT_CONTAINS(train_error({"--quantizer=gptq", "--int8-keep-float-fp32-name-patterns=x"}), "QUANTIZER=gptq");
  for (const char* flag : {"--matrix-bits=1", "--matrix-bits=9", "--matrix-clip-sigmas=0", "--hessian-clip-lambda=1.5",
                           "--gptq-calibration-batches=0", "--compressor=zstd", "--quantizer=int4"}) {
    EXPECT_NE(train_error({"--quantizer=gptq", flag}), "") << flag;
  }
  EXPECT_EQ(train({}).config.output.artifact.file(), ArtifactFormat().file());
  EXPECT_EQ(format_text(train({"--quantizer=gptq", "--compressor=brotli"}).config.output.artifact.file()), "gptq+brotli");
  EXPECT_EQ(train({"--quantizer=gptq"}).config.output.artifact.codes, CodeFormat::gptq);
  EXPECT_EQ(train({"--quantizer=gptq", "--gptq-clip=search"}).config.output.artifact.codes, CodeFormat::gptq_types);
}

TEST(TrainChecks, ShapeConflicts) {
  EXPECT_CONTAINS(train_error({"--num-heads=7"}),
                  "MODEL_DIM=512 (default), NUM_HEADS=7 (flag --num-heads): the number of heads must divide");
  EXPECT_CONTAINS(train_error({"--num-heads=7"}), "504 and 518");
  EXPECT_CONTAINS(train_error({"--num-kv-heads=3"}), "must divide the number of query heads");
  EXPECT_CONTAINS(train_error({"--model-dim=24"}), "a head has 3 dims");
  EXPECT_CONTAINS(train_error({"--num-kv-heads=16"}), "must divide the number of query heads");
}

TEST(TrainChecks, LoopsAreOfBlocksOfTheModel) {
  EXPECT_CONTAINS(
      train_error({"--num-loops=2"}),
      "NUM_LOOPS=2 (flag --num-loops), LOOP_START=-1 (default), LOOP_END=-1 (default), NUM_LAYERS=9 (default): a loop "
      "needs a first and a last block of the model");
  EXPECT_CONTAINS(train_error({"--num-loops=2", "--loop-start=4", "--loop-end=9"}), "LOOP_END=9");
  EXPECT_CONTAINS(train_error({"--num-loops=2", "--loop-start=5", "--loop-end=4"}), "LOOP_START=5");
  EXPECT_CONTAINS(train_error({"--num-loops=2", "--loop-start=4"}), "LOOP_END=-1");
  EXPECT_NO_THROW(train({"--loop-start=4", "--loop-end=9"})) << "the loop of a preset may be switched off";
  const ModelConfig model = train({"--num-loops=2", "--loop-start=4", "--loop-end=5"}).config.model;
  EXPECT_EQ(model.full_order().passes(), 13);
  EXPECT_EQ(model.skip_count(), 6);
}

TEST(TrainChecks, BlocksAreParallelFromOneOn) {
  const ModelConfig from_7 = train({"--parallel-residual-start=7"}).config.model;
  EXPECT_FALSE(from_7.parallel(6));
  EXPECT_TRUE(from_7.parallel(7));
  for (const char* flag : {"--parallel-block", "--parallel-residual-start=0"})
    EXPECT_TRUE(train({flag}).config.model.parallel(0));
  EXPECT_NO_THROW(train({"--parallel-block", "--parallel-residual-start=0"}));
  EXPECT_NO_THROW(train({"--parallel-block=0", "--parallel-residual-start=-1"}));
  for (const char* block : {"--parallel-block=0", "--parallel-block=1"}) {
    EXPECT_CONTAINS(train_error({block, "--parallel-residual-start=7"}), "both say which blocks are parallel");
  }
  EXPECT_CONTAINS(train_error({"--parallel-block=1", "--parallel-residual-start=-1"}), "both say which blocks are parallel");
}

TEST(TrainChecks, TokenExtras) {
  EXPECT_CONTAINS(train_error({"--bigram-vocab-size=3072", "--bigram-dim=63"}),
                  "BIGRAM_DIM=63 (flag --bigram-dim), MODEL_DIM=512 (default): table and projection would both start at zero");
  EXPECT_CONTAINS(train_error({"--bigram-vocab-size=3072", "--model-dim=32", "--num-heads=4"}), "never change");
  EXPECT_NO_THROW(train({"--bigram-vocab-size=3072", "--bigram-dim=32", "--model-dim=32", "--num-heads=4"}));
  EXPECT_NO_THROW(train({"--bigram-vocab-size=3072", "--bigram-dim=32", "--init-std=0.02"}));
  EXPECT_CONTAINS(train_error({"--bigram-vocab-size=3072", "--vocab-size=59139"}),
                  "the hash of a pair of tokens fits into 32 bits up to a vocabulary of 59138");
  EXPECT_NO_THROW(train({"--bigram-vocab-size=3072", "--vocab-size=59138"}));
  EXPECT_CONTAINS(train_error({"--bigram-vocab-size=1"}), "BIGRAM_VOCAB_SIZE=1");
  EXPECT_CONTAINS(train_error({"--ve-layers=3,9"}),
                  "VE_LAYERS=3,9 (flag --ve-layers), NUM_LAYERS=9 (default): block 9 is not in");
  EXPECT_CONTAINS(train_error({"--ve-layers=3,3"}), "block 3 is listed twice");
  EXPECT_CONTAINS(train_error({"--ve-layers=3,x"}), "is not a list of integers from 0 to 1023");
  EXPECT_TRUE(train({"--ve-layers="}).config.model.ve_layers.empty());
  EXPECT_EQ(find_option(train({"--ve-layers=3, 4,"}).resolved, "VE_LAYERS").text, "3,4");
}

TEST(TrainChecks, TheHiddenWidthIsRoundedDown) {
  EXPECT_EQ(train({"--mlp-mult=4.0625", "--model-dim=128"}).config.model.mlp_hidden(), 520);
  EXPECT_EQ(train({"--mlp-mult=2.999", "--model-dim=64", "--num-heads=4"}).config.model.mlp_hidden(), 191);
  EXPECT_CONTAINS(train_error({"--mlp-mult=0"}), "must be 0 < x <= 256");
  EXPECT_CONTAINS(train_error({"--mlp-mult=0.001"}), "the MLP has no hidden unit");
  EXPECT_EQ(find_option(train({"--mlp-mult=3.0"}).resolved, "MLP_MULT").text, "3") << "as before it could be a fraction";
}

TEST(TrainChecks, BatchConflicts) {
  const std::string batch = train_error({"--train-batch-tokens=10000"});
  EXPECT_CONTAINS(batch, "TRAIN_BATCH_TOKENS=10000 (flag --train-batch-tokens), TRAIN_SEQ_LEN=1024 (default)");
  EXPECT_CONTAINS(batch, "8192 and 16384");
  EXPECT_CONTAINS(train_error({"--train-batch-tokens=100"}), "the nearest valid value is 8192");
  EXPECT_NO_THROW(train({"--train-batch-tokens=8192"}));
  EXPECT_CONTAINS(train_error({"--val-batch-size=8191"}), "at least 8 * 1024 = 8192");
  EXPECT_NO_THROW(train({"--val-batch-size=8192"}));
  for (const char* micro : {"1024", "24576", "131072", "1"}) {
    EXPECT_CONTAINS(train_error({"--train-batch-tokens=65536", std::string("--micro-batch-tokens=") + micro}),
                    "MICRO_BATCH_TOKENS must be 8192, 16384, 32768 or 65536");
  }
  EXPECT_CONTAINS(train_error({"--parallel-passes=3"}), "PARALLEL_PASSES must divide 8");
  EXPECT_CONTAINS(train_error({"--train-batch-tokens=65536", "--micro-batch-tokens=32768", "--parallel-passes=4"}),
                  "at most the number of micro-batches per step");
  EXPECT_NO_THROW(train({"--train-batch-tokens=65536", "--micro-batch-tokens=32768", "--parallel-passes=2"}));
}

TEST(TrainChecks, CudaGraphsNeedTheFastOperations) {
  EXPECT_CONTAINS(train_error({"--cuda-graphs=on", "--ops=reference"}),
                  "CUDA_GRAPHS=on (flag --cuda-graphs), OPS=reference (flag --ops): the reference operations read");
  EXPECT_NO_THROW(train({"--ops=reference"}));
}

TEST(TrainChecks, RangesOfValues) {
  EXPECT_CONTAINS(train_error({"--logit-softcap=-1"}), "must be >= 0");
  EXPECT_CONTAINS(train_error({"--init-std=0"}), "must be > 0");
  EXPECT_CONTAINS(train_error({"--mlp-kind=relu"}), "relu2, relu3, leaky_relu, leaky_relu2, gelu, swiglu");
  EXPECT_CONTAINS(train_error({"--rope-base=-1"}), "must be > 0");
  EXPECT_CONTAINS(train_error({"--vocab-size=65537"}), "from 1 to 65536");
  EXPECT_CONTAINS(train_error({"--beta1=1"}), "0 <= x < 1");
  EXPECT_CONTAINS(train_error({"--seed=-1"}), "from 0 to 4294967295");
  EXPECT_CONTAINS(train_error({"--iterations=1e3"}), "is not an integer >= 0");
  for (const char* large : {"1e12", "2147483648", "99999999999999999999"}) {
    EXPECT_CONTAINS(train_error({"--warmdown-iters", large}), "is too large: it must be an integer from 0 to 2147483647");
  }
  EXPECT_CONTAINS(train_error({"--device=gpu"}), "auto, cpu, cuda");
  EXPECT_CONTAINS(train_error({"--keep-last=0"}), ">= 1");
  EXPECT_CONTAINS(train_error({"--tokenizer-path=byte260.json"}), "must be a SentencePiece .model file");
}

TEST(TrainChecks, WarmdownIsSetOnce) {
  EXPECT_CONTAINS(train_error({"--warmdown-frac=0.4"}, {{"WARMDOWN_ITERS", "100"}}),
                  "WARMDOWN_FRAC=0.4 (flag --warmdown-frac), WARMDOWN_ITERS=100 (environment WARMDOWN_ITERS)");
  EXPECT_CONTAINS(train_error({"--warmdown-frac=1.5"}), "0 <= x <= 1");
  const TrainCommand overridden = train({"--config", preset("cpu_small.env"), "--warmdown-frac=none", "--warmdown-iters=50"});
  EXPECT_LT(overridden.config.schedule.warmdown_frac, 0);
  EXPECT_EQ(overridden.config.schedule.warmdown_iters, 50);
}

TEST(TrainChecks, TimeInReserveIsPartOfTheCap) {
  EXPECT_CONTAINS(train_error({"--max-wallclock-seconds=12", "--gptq-reserve-seconds=12"}),
                  "GPTQ_RESERVE_SECONDS=12.0 (flag --gptq-reserve-seconds), MAX_WALLCLOCK_SECONDS=12.0 (flag "
                  "--max-wallclock-seconds): no time would be left for training");
  EXPECT_EQ(train({"--max-wallclock-seconds=13", "--gptq-reserve-seconds=12"}).config.schedule.cap_ms(), 1000);
  EXPECT_EQ(train({"--max-wallclock-seconds=0", "--gptq-reserve-seconds=12"}).config.schedule.cap_ms(), 0);
}

TEST(TrainChecks, TheSecondPhaseOfLoopsFollowsTheFirst) {
  EXPECT_CONTAINS(train_error({"--loop-phase2-at=0.4"}),
                  "LOOP_PHASE2_AT=0.4 (flag --loop-phase2-at), ENABLE_LOOPING_AT=0.5 (default)");
  EXPECT_NO_THROW(train({"--loop-phase2-at=0.5"}));
}

TEST(TrainChecks, ScoresAfterTraining) {
  EXPECT_CONTAINS(train_error({"--train-seq-len=32", "--train-batch-tokens=1024", "--eval-stride=64"}),
                  "EVAL_STRIDE=64 (flag --eval-stride), TRAIN_SEQ_LEN=32 (flag --train-seq-len): windows farther apart");
  EXPECT_CONTAINS(train_error({"--ttt-enabled"}), "TTT_ENABLED=1 (flag --ttt-enabled), EVAL_STRIDE=0 (default)");
  for (const char* flag : {"--ttt-lr=0.1", "--ttt-epochs=2", "--ttt-momentum=0.5", "--ttt-chunk-tokens=100"})
    EXPECT_CONTAINS(train_error({"--eval-stride=64", flag}), "TTT_ENABLED=0 (default): no effect");
}

TEST(TrainChecks, MinStepsNeedACap) {
  EXPECT_CONTAINS(
      train_error({"--min-steps=5", "--max-wallclock-seconds=0"}),
      "MIN_STEPS=5 (flag --min-steps), MAX_WALLCLOCK_SECONDS=0.0 (flag --max-wallclock-seconds): MIN_STEPS needs a time cap");
  EXPECT_CONTAINS(train_error({"--min-steps=-1"}), "is not an integer >= 0");
  EXPECT_NO_THROW(train({"--max-wallclock-seconds=0"}));
}

}  // namespace
}  // namespace pgolf
