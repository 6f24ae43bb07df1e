// Event files, TensorBoard's input: records of protocol buffers in TFRecord frames
// (tensorflow/core/lib/io/record_writer.h; tensorflow/core/util/event.proto and framework/summary.proto).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "pgolf/run/records.h"

namespace pgolf {

/// Counts of values in buckets: bucket i holds those up to limits[i] and above limits[i - 1].
struct Histogram {
  double min = 0, max = 0, sum = 0, sum_squares = 0;
  int64_t count = 0;
  std::vector<double> limits, counts;
};

/// Appends to a new event file. What cannot be written is lost, with a warning for the first: a run is worth more than its
/// curves.
class EventFile {
 public:
  using Scalars = std::vector<std::pair<std::string, double>>;  ///< tag, value; stored as float32

  /// In a run's folder. last_step: the step that the run resumes from; TensorBoard forgets what other files in the folder have of
  /// later steps.
  explicit EventFile(const std::filesystem::path& folder, int64_t last_step = -1);

  const std::filesystem::path& path() const { return path_; }

  void scalars(int64_t step, const Scalars& scalars);
  /// Shown as Markdown.
  void text(int64_t step, std::string_view tag, std::string_view text);
  void histogram(int64_t step, std::string_view tag, const Histogram& histogram);

  /// The record's numbers as scalars kind/field, without the kind where a field's name repeats it, such as val/bpb; with a name
  /// of its own, kind/name/field; its text as such. A record without a step has the last one written.
  template <class Record>
  void write(const Record& record) {
    Scalars found;
    std::string prefix = std::string(Record::kKind) + "/";
    const std::string repeated = std::string(Record::kKind) + "_";
    Record::fields(record, [&]<class T>(std::string_view field, const T& value, Need = Need::required) {
      if constexpr (std::is_same_v<T, std::string>) {
        if (field == "name") prefix += value + "/";
        if (field == "text") text(step_, Record::kKind, value);
      } else if constexpr (std::is_arithmetic_v<T>) {
        if (field == "step") {
          step_ = static_cast<int64_t>(value);
        } else {
          if (field.starts_with(repeated)) field.remove_prefix(repeated.size());
          found.emplace_back(prefix + std::string(field), static_cast<double>(value));
        }
      } else if constexpr (requires { value.has_value(); }) {
        if (value) found.emplace_back(prefix + std::string(field), static_cast<double>(*value));
      }
    });
    scalars(step_, found);
  }

 private:
  void append(const std::string& event);

  std::filesystem::path path_;
  int64_t step_;
  bool failed_ = false;
};

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4).
uint32_t crc32c(std::string_view bytes);

}  // namespace pgolf
