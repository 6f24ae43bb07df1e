#include "pgolf/artifact/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <unordered_set>

#include "pgolf/artifact/layout.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "numbers are copied as stored in memory");

constexpr size_t max_header_bytes = 16 << 20;
constexpr int max_header_depth = 3;  // header, tensor, shape

constexpr std::pair<DType, const char*> dtype_codes[] = {
    {DType::float64, "F64"}, {DType::float32, "F32"},  {DType::float16, "F16"}, {DType::bfloat16, "BF16"},
    {DType::int64, "I64"},   {DType::int32, "I32"},    {DType::int16, "I16"},   {DType::int8, "I8"},
    {DType::uint8, "U8"},    {DType::boolean, "BOOL"},
};

struct Layout {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  uint64_t begin, end;
};

/// Collects what a parsed json object loses: the order of the names, and duplicates. (The library's own parser callbacks would
/// see them too, but in quadratic time.)
struct KeyCollector : json::json_sax_t {
  std::vector<std::string> keys;
  std::unordered_set<std::string> seen, seen_within;
  int depth = 0;
  std::string fault;

  bool stop(std::string why) {
    fault = std::move(why);
    return false;
  }
  bool scalar() { return depth > 0 || stop("is not a JSON object"); }
  bool open(bool object) {
    if (depth == 0 && !object) return stop("is not a JSON object");
    return ++depth <= max_header_depth || stop("is nested too deeply");
  }
  bool close() {
    --depth;
    return true;
  }

  bool null() override { return scalar(); }
  bool boolean(bool) override { return scalar(); }
  bool number_integer(number_integer_t) override { return scalar(); }
  bool number_unsigned(number_unsigned_t) override { return scalar(); }
  bool number_float(number_float_t, const string_t&) override { return scalar(); }
  bool string(string_t&) override { return scalar(); }
  bool binary(binary_t&) override { return scalar(); }
  bool start_object(size_t) override {
    std::unordered_set<std::string>().swap(seen_within);  // clear() takes time proportional to the largest object so far
    return open(/*object=*/true);
  }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(/*object=*/false); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    auto& known = depth == 1 ? seen : seen_within;
    if (!known.insert(name).second) return stop("has a duplicate name \"" + printable(name) + "\"");
    if (depth == 1) keys.push_back(name);
    return true;
  }
  bool parse_error(size_t, const std::string&, const json::exception& e) override {
    return stop("is not JSON: " + printable(e.what()));
  }
};

class Parser {
 public:
  Parser(BytesView file, const std::string& name) : file_(file), name_(name) {}

  Safetensors run() {
    uint64_t header_size = 0;
    if (file_.size() < sizeof header_size) fail("is too short for a safetensors file");
    std::memcpy(&header_size, file_.data(), sizeof header_size);
    if (header_size > max_header_bytes || header_size > file_.size() - sizeof header_size) {
      fail(format("is truncated or not a safetensors file: it declares a header of %llu bytes",
                  static_cast<unsigned long long>(header_size)));
    }
    const json header = parse_header(file_.subspan(sizeof header_size, header_size));
    const BytesView data = file_.subspan(sizeof header_size + header_size);

    Safetensors out;
    std::vector<Layout> layouts;
    for (const std::string& key : keys_) {
      if (key == layout::metadata) {
        out.metadata = parse_metadata(header[key]);
      } else {
        layouts.push_back(parse_layout(key, header[key]));
      }
    }
    // Only after this check do the sizes add up to the file size.
    check_no_gaps(layouts, data.size());
    for (Layout& layout : layouts) {
      const BytesView bytes = data.subspan(layout.begin, layout.end - layout.begin);
      auto copy = std::make_shared<const Bytes>(bytes.begin(), bytes.end());
      out.tensors.push_back({std::move(layout.name), {layout.dtype, std::move(layout.shape), std::move(copy)}});
    }
    return out;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(ExitCode::bad_input, name_ + ": " + what); }

  json parse_header(BytesView bytes) {
    const auto* text = reinterpret_cast<const char*>(bytes.data());
    KeyCollector collector;
    const bool valid = json::sax_parse(text, text + bytes.size(), &collector);
    if (!valid) fail("the header " + collector.fault);
    keys_ = std::move(collector.keys);
    return json::parse(text, text + bytes.size());
  }

  std::map<std::string, std::string> parse_metadata(const json& object) const {
    if (!object.is_object()) fail(format("%s is not a JSON object", layout::metadata));
    std::map<std::string, std::string> metadata;
    for (const auto& [key, value] : object.items()) {
      if (!value.is_string()) fail(format("%s entry \"%s\" is not a string", layout::metadata, printable(key).c_str()));
      metadata.emplace(key, value.get<std::string>());
    }
    return metadata;
  }

  Layout parse_layout(const std::string& key, const json& object) const {
    const auto fail_here = [&](const char* what) { fail(format("tensor \"%s\" %s", printable(key).c_str(), what)); };
    if (!object.is_object() || object.size() != 3 || !object.contains("dtype") || !object.contains("shape") ||
        !object.contains("data_offsets")) {
      fail_here("does not have exactly dtype, shape and data_offsets");
    }
    const json& code = object["dtype"];
    const json& shape = object["shape"];
    const json& offsets = object["data_offsets"];
    const auto known = std::find_if(std::begin(dtype_codes), std::end(dtype_codes), [&](const auto& pair) {
      return code.is_string() && code.get_ref<const std::string&>() == pair.second;
    });
    if (known == std::end(dtype_codes)) fail_here("has an unsupported dtype");
    const auto non_negative = [](const json& number) {
      return number.is_number_unsigned() && number.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX);
    };
    if (!shape.is_array() || !std::all_of(shape.begin(), shape.end(), non_negative))
      fail_here("has a shape that is not a list of non-negative integers");
    if (!offsets.is_array() || offsets.size() != 2 || !std::all_of(offsets.begin(), offsets.end(), non_negative)) {
      fail_here("has data_offsets that are not two non-negative integers");
    }
    Layout layout{key, known->first, shape.get<std::vector<int64_t>>(), offsets[0].get<uint64_t>(), offsets[1].get<uint64_t>()};
    const bool valid = is_valid_shape(layout.shape, layout.dtype);
    const uint64_t bytes =
        valid ? dtype_size(layout.dtype) * static_cast<uint64_t>(RawTensor{layout.dtype, layout.shape, nullptr}.numel()) : 0;
    if (!valid || layout.begin > layout.end || layout.end - layout.begin != bytes) {
      fail_here("has data_offsets that do not match its shape and dtype");
    }
    return layout;
  }

  void check_no_gaps(std::vector<Layout> layouts, uint64_t data_size) const {
    std::sort(layouts.begin(), layouts.end(),
              [](const Layout& a, const Layout& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
    uint64_t position = 0;
    for (const Layout& layout : layouts) {
      if (layout.begin != position) fail("the tensors overlap or leave gaps");
      position = layout.end;
    }
    const bool short_file = position > data_size;
    if (position != data_size)
      fail(format(short_file ? "is truncated: %llu bytes are missing" : "%llu bytes follow the last tensor",
                  static_cast<unsigned long long>(short_file ? position - data_size : data_size - position)));
  }

  BytesView file_;
  const std::string& name_;
  std::vector<std::string> keys_;  // of the header, in file order
};

}  // namespace

bool starts_like_safetensors(BytesView file) {
  uint64_t header = 0;
  if (file.size() < sizeof header + 1) return false;
  std::memcpy(&header, file.data(), sizeof header);
  return file[sizeof header] == std::byte{'{'} && header < uint64_t{1} << 32;
}

Safetensors parse_safetensors(BytesView file, const std::string& name) {
  return Parser(file, name).run();
}

Safetensors load_safetensors(const std::filesystem::path& path) {
  const MappedFile file(path);
  return parse_safetensors(file.bytes(), path.string());
}

void save_safetensors(const std::filesystem::path& path, const Safetensors& content) {
  std::vector<size_t> by_size(content.tensors.size());
  std::iota(by_size.begin(), by_size.end(), size_t{0});
  const auto element_size = [&](size_t i) { return dtype_size(content.tensors[i].second.dtype); };
  std::stable_sort(by_size.begin(), by_size.end(), [&](size_t a, size_t b) { return element_size(a) > element_size(b); });
  std::vector<std::pair<uint64_t, uint64_t>> offsets(by_size.size());
  uint64_t position = 0;
  for (const size_t i : by_size) {
    const uint64_t size = content.tensors[i].second.bytes->size();
    offsets[i] = {position, position + size};
    position += size;
  }

  // One json value per entry: a single object would need a search per insertion or lose the order.
  std::string header = "{";
  const auto add = [&](const std::string& key, const json& value) {
    header += (header.size() > 1 ? "," : "") + json(key).dump() + ":" + value.dump();
  };
  if (!content.metadata.empty()) add(layout::metadata, content.metadata);
  for (size_t i = 0; i < content.tensors.size(); ++i) {
    const RawTensor& tensor = content.tensors[i].second;
    const auto code = std::find_if(std::begin(dtype_codes), std::end(dtype_codes),
                                   [&](const auto& pair) { return pair.first == tensor.dtype; });
    add(content.tensors[i].first,
        {{"dtype", code->second}, {"shape", tensor.shape}, {"data_offsets", {offsets[i].first, offsets[i].second}}});
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > max_header_bytes)
    throw Error(ExitCode::bad_input, path.string() + ": the safetensors header would exceed 16 MiB");

  const auto header_size = static_cast<uint64_t>(header.size());
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(&header_size, 1)));
  file.write(as_bytes(header));
  for (const size_t i : by_size) file.write(*content.tensors[i].second.bytes);
  file.commit();
}

std::map<std::string, std::string> safetensors_metadata(const std::map<std::string, std::string>& config) {
  std::map<std::string, std::string> metadata{{layout::format, layout::format_of_model}};
  if (!config.empty()) metadata[layout::config] = json(config).dump();
  return metadata;
}

std::map<std::string, std::string> safetensors_config(const std::map<std::string, std::string>& metadata,
                                                      const std::string& name) {
  const auto stored = metadata.find(layout::config);
  if (stored == metadata.end()) return {};
  const json object = json::parse(stored->second, nullptr, /*allow_exceptions=*/false);
  std::map<std::string, std::string> config;
  const bool strings =
      object.is_object() && std::all_of(object.begin(), object.end(), [](const json& value) { return value.is_string(); });
  if (!strings) throw Error(ExitCode::bad_input, format("%s: %s is not a JSON object of strings", name.c_str(), layout::config));
  for (const auto& [key, value] : object.items()) config.emplace(key, value.get<std::string>());
  return config;
}

}  // namespace pgolf
