// JSON Lines files of records (records.h): one object per line, with the record's kind and fields.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "pgolf/run/event_file.h"
#include "pgolf/run/records.h"

namespace pgolf {

template <class Record>
nlohmann::ordered_json to_json(const Record& record) {
  nlohmann::ordered_json line{{"kind", Record::kKind}};
  const auto write = [&](const char* name, const auto& value, Need = Need::required) {
    if constexpr (requires { value.has_value(); }) {
      line[name] = value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
    } else {
      line[name] = value;
    }
  };
  Record::fields(record, write);
  return line;
}

/// Thrown by as() for a missing required number.
struct MissingNumber {
  std::string name;
};

/// The line as a record if it is of that kind. A value of the wrong type counts as missing.
template <class Record, class Json>
std::optional<Record> as(const Json& line) {
  const auto kind = line.find("kind");
  if (kind == line.end() || *kind != Record::kKind) return std::nullopt;
  Record record;
  const auto read = [&]<class T>(const char* name, T& value, Need need = Need::required) {
    const auto found = line.find(name);
    const bool there = found != line.end();
    if constexpr (std::is_same_v<T, int64_t>) {
      if (there && found->is_number_integer())
        value = found->template get<T>();
      else if (need == Need::required)
        throw MissingNumber{name};
    } else if constexpr (std::is_same_v<T, double>) {
      if (there && found->is_number())
        value = found->template get<T>();
      else if (need == Need::required)
        throw MissingNumber{name};
    } else if constexpr (std::is_same_v<T, std::optional<int64_t>>) {
      if (there && found->is_number_integer()) value = found->template get<int64_t>();
    } else if constexpr (std::is_same_v<T, std::optional<double>>) {
      if (there && found->is_number()) value = found->template get<double>();
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (there && found->is_string()) value = found->template get<T>();
    } else {
      static_assert(std::is_same_v<T, std::vector<std::string>> || std::is_same_v<T, std::map<std::string, std::string>>);
      const auto text = [](const auto& entry) { return entry.is_string(); };
      if (there && found->is_structured() && std::all_of(found->begin(), found->end(), text)) found->get_to(value);
    }
  };
  Record::fields(record, read);
  return record;
}

/// Problems found while reading a file.
struct RecordProblems {
  std::vector<std::string> lines;  ///< one message per skipped line
  bool cut = false;                ///< the last line is truncated, as a killed writer leaves it
};

/// f(line) for every line that is a JSON object; it may throw MissingNumber. Error(bad_input) if the file can't be read.
RecordProblems read_records(const std::filesystem::path& path, const std::function<void(const nlohmann::json& line)>& f);

/// Appends to a file.
class RecordFile {
 public:
  /// With keep_until_step >= 0 an existing file first loses every line of a later step, the validation of that step, and every
  /// line without a step but the first, so that a resumed run leaves the same file as an uninterrupted one.
  explicit RecordFile(const std::filesystem::path& path, int64_t keep_until_step = -1);

  /// From now on records are also written to a new event file next to this one.
  void add_events() { events_.emplace(path_.parent_path(), keep_until_step_); }
  /// Null without one.
  EventFile* events() { return events_ ? &*events_ : nullptr; }

  /// A line that cannot be written is kept, with a warning for the first, and written before the next one.
  template <class Record>
  void write(const Record& record) {
    append(to_json(record).dump());
    if (events_) events_->write(record);
  }

  const std::filesystem::path& path() const { return path_; }
  /// The lines that are not in the file yet, after another try.
  const std::string& unwritten();

 private:
  void append(std::string line);

  std::filesystem::path path_;
  int64_t keep_until_step_;
  std::optional<EventFile> events_;
  std::string unwritten_;
};

}  // namespace pgolf
