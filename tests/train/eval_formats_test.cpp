// eval_gpt inspect, export and compare on the files of a run.
#include "pgolf/artifact/codec.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/model_io/model_writer.h"
#include "pgolf/model_io/tensors.h"
#include "support/training.h"

namespace pgolf::testing {
namespace {

std::vector<nlohmann::json> json_lines_of(const std::string& out) {
  std::vector<nlohmann::json> lines;
  for (const auto& line : split(trim(out), '\n')) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
  for (const auto& part : parts) EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in: " << text;
}

class EvalFormats : public ::testing::Test {
 protected:
  /// One run for all tests: they do not change it.
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    const auto trained =
        run_program("train_gpt", {"--rope-dims", "6"},
                    tiny_variables({{"OUT_DIR", folder_->path().string()}, {"RUN_ID", "run"}, {"SAVE_EVERY", "2"}}));
    ASSERT_EQ(trained.code, 0) << trained.err;
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }

  RunFolder run() const { return {*folder_ / "run"}; }
  std::string checkpoint() const { return list_checkpoints(run().checkpoints()).back().string(); }
  /// The run's model without its configuration, as upstream writes it.
  fs::path silent() const {
    const ModelFile file = read_model_file(run().model());
    write_model(own_ / "final_model.pt", file.state, file.stored.model, {});
    return own_ / "final_model.pt";
  }
  static ProgramResult eval_gpt(const std::vector<std::string>& arguments) { return run_program("eval_gpt", arguments); }
  ProgramResult exported(const fs::path& from, const fs::path& to, std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"export", from.string(), "--output", to.string()});
    return eval_gpt(more);
  }
  ProgramResult compare(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "compare");
    arguments.insert(arguments.end(),
                     {"--val-files", Dataset::get().val_files(), "--tokenizer-path", Dataset::get().tokenizer_path(), "--dtype",
                      "float32", "--device", "cpu", "--num-threads", "1", "--eval-tokens", "160"});
    return eval_gpt(arguments);
  }
  static void expect_mistake(const ProgramResult& result, int code, const std::vector<std::string>& parts) {
    EXPECT_EQ(result.code, code) << result.err;
    EXPECT_EQ(result.err.rfind("error: ", 0), 0u) << result.err;
    EXPECT_EQ(result.out, "");
    expect_parts(result.err, parts);
  }

  static TempFolder* folder_;
  TempFolder own_;
};
TempFolder* EvalFormats::folder_ = nullptr;

// ---- inspect

TEST_F(EvalFormats, InspectListsTheContents) {
  const auto result = eval_gpt({"inspect", run().artifact().string(), run().model().string(), checkpoint()});
  ASSERT_EQ(result.code, 0) << result.err;
  expect_parts(result.out, {"format  int8+zlib (int8_clean_per_row_v1)", "format  torch\n", "format  training checkpoint\n",
                            "2 layers of width 32, 2 heads (1 key/value), MLP 2x, vocabulary 320, embeddings tied",
                            "rope    6 of 16 dims base:10000.0 style:half select:prefix scaling:none table:float32",
                            "of 16,000,000", "ROPE_DIMS=6", "tok_emb.weight", "[320, 32]", "step    2"});
  EXPECT_EQ(result.out.find("assumed"), std::string::npos);
  const auto budget = eval_gpt({"inspect", run().artifact().string(), "--budget-bytes", "1000"});
  expect_parts(budget.out, {"of 1,000; ", " bytes too many"});
}

TEST_F(EvalFormats, InspectInJson) {
  const auto result = eval_gpt({"inspect", run().path.string(), silent().string(), "--format", "jsonl"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto lines = json_lines_of(result.out);
  const auto& head = lines.at(0);
  EXPECT_EQ(head.at("kind"), "file");
  EXPECT_EQ(head.at("file"), run().artifact().string()) << "the model file of a run folder";
  EXPECT_EQ(head.at("file_bytes"), fs::file_size(run().artifact()));
  EXPECT_EQ(head.at("left_for_code"), 16'000'000 - static_cast<int64_t>(fs::file_size(run().artifact())));
  EXPECT_EQ(head.at("config").at("ROPE_DIMS"), "6");
  for (const auto& [name, text] : head.at("config").items()) EXPECT_EQ(head.at("model").at(name), text) << name;
  EXPECT_EQ(head.at("model").at("NUM_LOOPS"), "0") << "files may lack a default";
  EXPECT_TRUE(head.at("assumed").empty());
  const ModelFile file = read_model_file(run().artifact());
  const size_t tensors = file.state.size();
  ASSERT_EQ(lines.size(), 2 * (1 + tensors));
  int64_t values = 0;
  for (size_t i = 1; i <= tensors; ++i) {
    EXPECT_EQ(lines[i].at("kind"), "tensor");
    int64_t numel = 1;
    for (const int64_t extent : lines[i].at("shape")) numel *= extent;
    values += numel;
  }
  EXPECT_EQ(head.at("values"), values);
  const auto& quiet = lines.at(1 + tensors);
  EXPECT_TRUE(quiet.at("config").empty());
  EXPECT_EQ(quiet.at("model").at("ROPE_DIMS"), "full");
  EXPECT_EQ(std::count(quiet.at("assumed").begin(), quiet.at("assumed").end(), "ROPE_DIMS=full"), 1);
}

TEST_F(EvalFormats, InspectListsModelsItCannotUse) {
  Dict codes, object;
  codes.set(text("w\x1b[2J"), to_raw(torch::zeros({4, 4}, at::kChar)));
  object.set(text("__quant_format__"), text("int4_packed"));
  object.set(text("quantized"), codes);
  object.set(text("passthrough"), Dict());
  write_atomic(own_ / "other.ptz", zlib_compress(save_torch(object), 9));
  const auto table = eval_gpt({"inspect", (own_ / "other.ptz").string()});
  EXPECT_EQ(table.code, 0) << table.err;
  expect_parts(table.out,
               {"int8+zlib (int4_packed)", "not usable: ", "unknown quantization format \"int4_packed\"", "w?[2J", "[4, 4]"});
  const auto lines = json_lines_of(eval_gpt({"inspect", (own_ / "other.ptz").string(), "--format", "jsonl"}).out);
  expect_parts(lines.at(0).at("no_model"), {"int4_packed"});
  EXPECT_EQ(lines.at(1).at("name"), "w\x1b[2J");
}

TEST_F(EvalFormats, InspectNamesDamagedAndForeignFiles) {
  write_file(own_ / "a.ptz", std::string("\x28\xb5\x2f\xfd and more"));
  expect_mistake(eval_gpt({"inspect", (own_ / "a.ptz").string()}), 3, {"a.ptz", "zstd-compressed"});
  expect_mistake(eval_gpt({"inspect", (own_ / "missing").string()}), 3, {"missing"});
  expect_mistake(eval_gpt({"inspect"}), 2, {"no file given"});
  const fs::path damaged = own_ / "step_00000001.safetensors";
  fs::copy_file(checkpoint(), damaged);
  damage_file(damaged);
  expect_mistake(eval_gpt({"inspect", damaged.string()}), 3, {"checksum"});
  const auto both = eval_gpt({"inspect", (own_ / "a.ptz").string(), run().artifact().string()});
  EXPECT_EQ(both.code, 3);
  expect_parts(both.out, {"tok_emb.weight"});
  expect_parts(both.err, {"zstd-compressed"});
}

TEST_F(EvalFormats, WrappedModelsAreReadAndSaidSo) {
  Dict object, model(/*ordered=*/true);
  const Value stored = load_torch_file(run().model());
  for (const auto& [key, value] : stored.as_dict("m").entries()) model.set(text("_orig_mod." + *key), value);
  model.add_attribute(text("pgolf_config"), *stored.as_dict("m").find_attribute("pgolf_config"));
  object.set(text("model"), std::move(model));
  object.set(text("step"), 7);
  write_atomic(own_ / "wrapped.pt", save_torch(object));
  const std::string wrapped = (own_ / "wrapped.pt").string(),
                    said = "the weights at \"model\", without the prefix \"_orig_mod.\"";

  const auto table = eval_gpt({"inspect", wrapped});
  EXPECT_EQ(table.code, 0) << table.err;
  expect_parts(table.out, {"read    " + said + "\n", "ROPE_DIMS=6", "model._orig_mod.tok_emb.weight", "step    7"});
  EXPECT_EQ(table.err, "");
  const auto head = json_lines_of(eval_gpt({"inspect", wrapped, "--format", "jsonl"}).out).at(0);
  EXPECT_EQ(head.at("unwrapped"), said);
  EXPECT_EQ(head.at("config").at("ROPE_DIMS"), "6");
  EXPECT_EQ(json_lines_of(eval_gpt({"inspect", run().model().string(), "--format", "jsonl"}).out).at(0).at("unwrapped"), "");

  const auto plain = exported(wrapped, own_ / "final_model.pt");
  EXPECT_EQ(plain.code, 0);
  EXPECT_EQ(plain.err, "warning: " + wrapped + ": read " + said + "\n");
  EXPECT_EQ(read_bytes(own_ / "final_model.pt"), read_bytes(run().model()));
  const auto both = compare({wrapped, run().model().string(), "--format", "jsonl"});
  EXPECT_EQ(both.code, 0) << both.err;
  for (const auto& line : json_lines_of(both.out)) {
    if (line.at("kind") != "tensor") continue;
    EXPECT_EQ(line.at("bytes_a"), line.at("bytes_b"));
  }
}

// ---- export

TEST_F(EvalFormats, ExportWritesTheRunsOwnBytes) {
  const fs::path pt = own_ / "final_model.pt", ptz = own_ / "final_model.int8.ptz";
  ASSERT_EQ(exported(checkpoint(), pt).code, 0);
  EXPECT_EQ(read_bytes(pt), read_bytes(run().model()));
  ASSERT_EQ(exported(checkpoint(), ptz).code, 0);
  EXPECT_EQ(read_bytes(ptz), read_bytes(run().artifact()));
  ASSERT_EQ(exported(run().model(), own_ / "m.safetensors").code, 0);
  const auto overwritten = exported(own_ / "m.safetensors", pt, {"--overwrite"});
  ASSERT_EQ(overwritten.code, 0) << overwritten.err;
  EXPECT_EQ(read_bytes(pt), read_bytes(run().model()));
  expect_parts(overwritten.out, {"final_model.pt: ", " bytes, ", " tensors, configuration, from ", "(safetensors)"});
  EXPECT_EQ(overwritten.err, "");
}

TEST_F(EvalFormats, ExportCompressesByAnyCodec) {
  for (const char* codec : {"zlib", "lzma", "brotli"}) {
    const fs::path path = own_ / (std::string(codec) + ".ptz");
    ASSERT_EQ(exported(run().model(), path, {"--compressor", codec}).code, 0);
    EXPECT_EQ(format_text(read_model_file(path).format), std::string("int8+") + codec);
    expect_same_tensors(read_model_file(path).state, read_model_file(run().artifact()).state);
    expect_parts(eval_gpt({"inspect", path.string()}).out, {std::string("int8+") + codec + " (int8_clean_per_row_v1)"});
  }
  expect_mistake(exported(run().model(), own_ / "m.pt", {"--compressor", "brotli"}), 2, {"COMPRESSOR=brotli", ".ptz"});
}

TEST_F(EvalFormats, ExportDoesNotInventAConfiguration) {
  const fs::path from = silent(), to = own_ / "m.safetensors";
  const auto plain = exported(from, to);
  ASSERT_EQ(plain.code, 0) << plain.err;
  expect_parts(plain.out, {"no configuration"});
  EXPECT_TRUE(read_model_file(to).metadata.empty());
  EXPECT_FALSE(read_model_file(to).assumed.empty());
  ASSERT_EQ(exported(to, own_ / "again/final_model.pt").code, 2) << "the folder does not exist";
  fs::create_directory(own_ / "again");
  ASSERT_EQ(exported(to, own_ / "again/final_model.pt").code, 0);
  EXPECT_EQ(read_bytes(own_ / "again/final_model.pt"), read_bytes(from));

  expect_mistake(exported(from, to, {"--overwrite", "--rope-dims", "6"}), 2, {"--rope-dims", "--store-assumed"});
  const auto stored = exported(from, to, {"--overwrite", "--rope-dims", "6", "--train-seq-len", "16", "--store-assumed", "true"});
  ASSERT_EQ(stored.code, 0) << stored.err;
  expect_parts(stored.out, {"assumed configuration", "ROPE_DIMS=6", "LOGIT_SOFTCAP=30.0"});
  auto expected = read_model_file(run().model()).metadata;
  expected.erase("TOKENIZER");  // it does not follow from anything
  EXPECT_EQ(read_model_file(to).metadata, expected);
  expect_mistake(exported(run().model(), to, {"--overwrite", "--store-assumed", "true"}), 2, {"stores its configuration"});
  expect_mistake(exported(run().model(), to, {"--overwrite", "--rope-dims", "4"}), 2, {"ROPE_DIMS=6"});
}

TEST_F(EvalFormats, ExportMistakesLeaveNothingBehind) {
  const fs::path model = run().model(), present = own_ / "present.pt";
  write_file(present, "precious");
  expect_mistake(exported(model, present), 2, {"present.pt exists", "--overwrite"});
  expect_mistake(exported(model, own_ / "no/m.pt"), 2, {"no such folder"});
  expect_mistake(exported(model, own_ / "m.bin"), 2, {"m.bin", ".safetensors"});
  fs::create_directory(own_ / "folder.pt");
  expect_mistake(exported(model, own_ / "folder.pt", {"--overwrite"}), 2, {"is a folder"});
  expect_mistake(exported(own_ / "missing.pt", own_ / "m.pt"), 3, {"missing.pt"});
  expect_mistake(exported(present, present, {"--overwrite"}), 3, {"a text file"});
  expect_mistake(eval_gpt({"export", model.string()}), 2, {"output"});
  expect_mistake(eval_gpt({"export", "--output", (own_ / "m.pt").string()}), 2, {"exactly one model"});
  EXPECT_EQ(read_text(present), "precious");
  EXPECT_EQ(names_in(own_.path()), (std::vector<std::string>{"folder.pt", "present.pt"}));
}

TEST_F(EvalFormats, ExportWarnsAboutQuantizingTwice) {
  const auto result = exported(run().artifact(), own_ / "m.ptz");
  EXPECT_EQ(result.code, 0);
  expect_parts(result.err, {"warning: ", "already quantized"});
}

// ---- compare

TEST_F(EvalFormats, CompareFullAndQuantized) {
  const auto result = compare({run().model().string(), run().artifact().string(), "--format", "jsonl"});
  ASSERT_EQ(result.code, 0) << result.err;
  const auto lines = json_lines_of(result.out);
  const auto& head = lines.at(0);
  EXPECT_EQ(head.at("kind"), "compare");
  EXPECT_EQ(head.at("tokens"), 160);
  EXPECT_EQ(head.at("windows"), 10);
  EXPECT_EQ(head.at("seq_len"), 16);
  EXPECT_NEAR(head.at("difference").get<double>(), head.at("val_loss_b").get<double>() - head.at("val_loss_a").get<double>(),
              1e-12);
  EXPECT_GT(head.at("stderr_difference").get<double>(), 0);
  EXPECT_GT(head.at("kl").get<double>(), 0);
  EXPECT_LT(head.at("kl").get<double>(), 0.01);
  EXPECT_GT(head.at("top1_agreement").get<double>(), 0.9);
  EXPECT_EQ(head.at("no_tensors"), "");
  EXPECT_EQ(lines.size(), 1 + read_model_file(run().model()).state.size());
  EXPECT_EQ(lines.at(1).at("kind"), "tensor");
}

TEST_F(EvalFormats, CompareInEveryForm) {
  const auto form = [&](const char* name) {
    const auto result = compare({run().model().string(), run().artifact().string(), "--format", name});
    EXPECT_EQ(result.code, 0) << result.err;
    return result.out;
  };
  expect_parts(form("table"), {"B - A", "KL(A||B)", "top-1 agreement ", "; 160 tokens, ", "relative RMS", "tok_emb.weight"});
  expect_parts(form("md"), {"| model | val_loss | val_bpb |", "| KL(A\\|\\|B) |", "| tok_emb.weight | 320x32 |"});
  const std::string csv = form("csv");
  expect_parts(csv, {"kind,a,b,seq_len,", "\ntensor,"});
  const auto lines = split(trim(csv), '\n');
  for (const auto& line : lines)
    EXPECT_EQ(std::count(line.begin(), line.end(), ','), std::count(lines[0].begin(), lines[0].end(), ',')) << line;
  const auto result = compare({run().model().string(), run().artifact().string(), "--output", (own_ / "out.txt").string()});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(read_text(own_ / "out.txt"), form("table"));
}

TEST_F(EvalFormats, CompareOfOtherShapesAndVocabularies) {
  const auto train = [&](const char* id, const Variables& changes) {
    Variables variables = tiny_variables(changes);
    variables["OUT_DIR"] = own_.path().string();
    variables["RUN_ID"] = id;
    const auto trained = run_program("train_gpt", {}, variables);
    ASSERT_EQ(trained.code, 0) << trained.err;
  };
  train("deeper", {{"NUM_LAYERS", "3"}});
  const auto shapes = compare({run().path.string(), (own_ / "deeper").string()});
  EXPECT_EQ(shapes.code, 0) << shapes.err;
  expect_parts(shapes.out, {"KL(A||B)", "no tensor table: "});
  ModelConfig other = tiny_config();
  Gpt model = make_model(other);
  write_model(own_ / "other.pt", state_dict(model), other, model_metadata(other, 16));
  expect_mistake(compare({run().path.string(), (own_ / "other.pt").string()}), 3, {"vocabulary of 320", "48"});
  expect_mistake(compare({run().path.string()}), 2, {"exactly two"});
  expect_mistake(compare({run().path.string(), run().path.string(), "--output", own_.path().string()}), 6, {"is a folder"});
}

}  // namespace
}  // namespace pgolf::testing
