// eval_gpt inspect: the contents of a model file.
#include <torch/types.h>

#include <cstdio>
#include <filesystem>
#include <optional>

#include "commands.h"
#include "pgolf/artifact/contents.h"
#include "pgolf/artifact/layout.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/options.h"
#include "pgolf/config/rope_options.h"
#include "pgolf/model_io/checkpoint.h"
#include "pgolf/model_io/model_file.h"
#include "pgolf/model_io/tensors.h"
#include "results.h"

namespace pgolf {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

struct Inspected {
  ModelContainer container;
  FileContents contents;
  std::optional<ModelFile> model;
  std::string no_model;  ///< why there is none

  int64_t values() const {
    int64_t sum = 0;
    for (const auto& tensor : contents.tensors) sum += tensor.data.numel();
    return sum;
  }
  int64_t bytes() const {
    int64_t sum = 0;
    for (const auto& tensor : contents.tensors) sum += tensor.bytes();
    return sum;
  }
};

Inspected inspect(const fs::path& path) {
  Inspected out;
  out.container = open_model_container(path);
  // Verifies the checksum; a damaged checkpoint is not listed.
  if (out.container.is_checkpoint()) load_checkpoint(path);
  out.contents = list_contents(out.container, path.string());
  try {
    out.model = read_model_file(path);
    if (out.contents.config.empty()) out.contents.config = out.model->metadata;  // of a state dict within other dicts
  } catch (const Error& e) {
    out.no_model = e.what();
  }
  return out;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (const int64_t extent : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(extent);
  return out + "]";
}

bool has_codes(const StoredTensor& tensor) {
  return tensor.scale && tensor.data.dtype == DType::int8;
}

/// Smallest and largest value; nullopt for an empty tensor.
std::optional<std::pair<double, double>> range_of(const RawTensor& tensor) {
  if (tensor.numel() == 0) return std::nullopt;
  const auto values = to_tensor(tensor).to(at::kDouble);
  return std::pair(values.min().item<double>(), values.max().item<double>());
}

/// "-127..127", formatted with %g.
std::string range_text(const RawTensor& tensor) {
  const auto range = range_of(tensor);
  if (!range) return "";
  return range->first == range->second ? format("%.3g", range->first) : format("%.3g..%.3g", range->first, range->second);
}

/// "float16 [1024] 0.00787..0.0213".
std::string scale_text(const StoredTensor& tensor) {
  if (!tensor.scale) return "";
  return std::string(dtype_name(tensor.scale->dtype)) + " " + shape_text(tensor.scale->shape) + " " + range_text(*tensor.scale);
}

std::string rope_text(const ModelConfig& model) {
  const RopeSettings& rope = model.rope;
  const std::string layers = model.rope_dims.layers_text(model.head_dim());
  std::string out = layers == "same" ? describe_rope_dims(model.widest_rope()) : "per layer " + layers;
  out += format(" base:%s style:%s select:%s scaling:%s", python_float(rope.base).c_str(), enum_text(rope.style),
                enum_text(rope.select), enum_text(rope.scaling));
  if (rope.scaling != RopeScaling::none)
    out += format(" factor:%s original_seq_len:%d", python_float(rope.scaling_factor).c_str(), rope.original_seq_len);
  return out + " table:" + enum_text(rope.table_dtype);
}

std::string model_text(const ModelFile& file) {
  const ModelConfig& model = file.stored.model;
  std::string layers = format("%d layers", model.num_layers);
  if (model.num_loops > 0) layers += format(" (%d to %d run %d times)", model.loop_start, model.loop_end, model.num_loops + 1);
  return layers + format(" of width %d, %d heads (%d key/value), MLP %gx, vocabulary %d, embeddings %s", model.model_dim,
                         model.num_heads, model.num_kv_heads, model.mlp_mult, model.vocab_size,
                         model.tie_embeddings ? "tied" : "not tied");
}

std::string overview(const Inspected& file, const fs::path& path, int64_t budget) {
  const FileContents& contents = file.contents;
  const auto file_bytes = static_cast<int64_t>(file.container.file_bytes);
  std::string out = printable(path.string(), std::string::npos) + "\n";
  const auto line = [&](const std::string& name, const std::string& value) {
    out += "  " + name + std::string(name.size() < 8 ? 8 - name.size() : 1, ' ') + value + "\n";
  };
  line("format",
       format_text(file.container.format) + (contents.quant_format.empty() ? "" : " (" + printable(contents.quant_format) + ")"));
  line("bytes", with_commas(file_bytes) +
                    (file.container.unpacked_bytes == file.container.file_bytes
                         ? ""
                         : format(", unpacked %s", with_commas(static_cast<int64_t>(file.container.unpacked_bytes)).c_str())));
  line("budget", format("%.2f%% of %s; %s bytes %s", 100.0 * static_cast<double>(file_bytes) / static_cast<double>(budget),
                        with_commas(budget).c_str(), with_commas(std::abs(budget - file_bytes)).c_str(),
                        file_bytes <= budget ? "left for the code" : "too many"));
  line("tensors", format("%zu, %s values, %s bytes", contents.tensors.size(), with_commas(file.values()).c_str(),
                         with_commas(file.bytes()).c_str()));
  line("model", file.model ? model_text(*file.model) : "not usable: " + printable(file.no_model, std::string::npos));
  if (file.model && !file.model->unwrapped.empty()) line("read", file.model->unwrapped);
  if (file.model) line("rope", rope_text(file.model->stored.model));
  if (file.model && !file.model->assumed.empty()) line("assumed", join(file.model->assumed, " "));
  std::vector<std::string> stored;
  for (const auto& [key, value] : contents.config) stored.push_back(printable(key + "=" + value));
  line("config", stored.empty() ? "none stored" : join(stored, " "));
  for (const auto& [key, value] : contents.notes) line(printable(key, 60), printable(value, 100));
  Table table({"tensor", "shape", "stored", "read as", {"bytes", true}, "scales", "codes", {"bits", true}});
  for (const auto& tensor : contents.tensors) {
    const std::string method = tensor.method.empty() ? "" : ", " + printable(tensor.method, 40);
    table.add({printable(tensor.name), shape_text(tensor.data.shape), dtype_name(tensor.data.dtype) + method,
               printable(tensor.dtype, 40), with_commas(tensor.bytes()), scale_text(tensor),
               has_codes(tensor) ? range_text(tensor.data) : "",
               has_codes(tensor) ? format("%.3f", code_entropy(tensor.data)) : ""});
  }
  return out + "\n" + table.aligned();
}

JsonRows json_rows(const Inspected& file, const fs::path& path, int64_t budget) {
  const FileContents& contents = file.contents;
  ordered_json head{{"kind", "file"},
                    {"file", path.string()},
                    {"format", format_text(file.container.format)},
                    {"quant_format", contents.quant_format},
                    {"file_bytes", file.container.file_bytes},
                    {"unpacked_bytes", file.container.unpacked_bytes},
                    {"budget_bytes", budget},
                    {"left_for_code", budget - static_cast<int64_t>(file.container.file_bytes)},
                    {"tensors", contents.tensors.size()},
                    {"values", file.values()},
                    {"tensor_bytes", file.bytes()},
                    {"config", contents.config}};
  if (file.model) {
    head["model"] = model_metadata(file.model->stored.model, file.model->stored.train_seq_len);
    if (const auto& tokenizer = file.model->stored.tokenizer; !tokenizer.empty()) head["model"][layout::tokenizer] = tokenizer;
    head["assumed"] = file.model->assumed;
    head["unwrapped"] = file.model->unwrapped;
  } else {
    head["no_model"] = file.no_model;
  }
  auto& notes = head["notes"] = ordered_json::object();
  for (const auto& [key, value] : contents.notes) notes[key] = value;
  JsonRows rows{std::move(head)};
  for (const auto& tensor : contents.tensors) {
    ordered_json row{{"kind", "tensor"},           {"name", tensor.name},
                     {"shape", tensor.data.shape}, {"stored", dtype_name(tensor.data.dtype)},
                     {"dtype", tensor.dtype},      {"bytes", tensor.bytes()}};
    if (!tensor.method.empty()) row["method"] = tensor.method;
    if (tensor.scale) {
      row["scale_dtype"] = dtype_name(tensor.scale->dtype);
      row["scale_shape"] = tensor.scale->shape;
      if (const auto range = range_of(*tensor.scale)) row["scale_min"] = range->first, row["scale_max"] = range->second;
    }
    if (has_codes(tensor)) {
      if (const auto range = range_of(tensor.data)) row["code_min"] = range->first, row["code_max"] = range->second;
      row["code_bits"] = code_entropy(tensor.data);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

ExitCode run_inspect(int argc, const char* const* argv) {
  std::vector<std::string> paths;
  bool help = false;
  Format form = Format::table;
  int64_t budget = OutputConfig().budget_bytes;
  OptionTable table(
      "eval_gpt inspect FILE... [--OPTION VALUE]...",
      "Shows what model files contain, from train_gpt or elsewhere: format, tensors, configuration, rotation, size against\n"
      "the budget. Files are only parsed; no code in them is run.");
  table.accept_positional(&paths);
  table.add_action({.name = "help", .field = &help, .help = "Print this help and exit.", .stops = true});
  table.group("Inspect");
  table.add("FORMAT", format_choice(&form, {Format::table, Format::jsonl}), "", "Output format.");
  table.add("BUDGET_BYTES", bind::integer(&budget, 1), "bytes", "Size limit for model and code together.");
  table.resolve(argc, argv, {});
  if (help) {
    std::fputs(table.help().c_str(), stdout);
    return ExitCode::ok;
  }
  if (paths.empty()) throw Error(ExitCode::usage, "no file given", "eval_gpt inspect FILE...");
  return for_each_file(paths, [&](const std::string& given) {
    const fs::path path = model_path(given);
    const Inspected file = inspect(path);
    const char* between = &given == paths.data() ? "" : "\n";
    write_result("", form == Format::jsonl ? json_lines(json_rows(file, path, budget)) : between + overview(file, path, budget));
  });
}

}  // namespace pgolf
