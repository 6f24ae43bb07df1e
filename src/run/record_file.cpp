#include "pgolf/run/record_file.h"

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace fs = std::filesystem;

RecordProblems read_records(const fs::path& path, const std::function<void(const nlohmann::json& line)>& f) {
  RecordProblems problems;
  const std::string all = read_text(path);
  const auto lines = split(all, '\n');
  for (size_t i = 0; i < lines.size(); ++i) {
    if (trim(lines[i]).empty()) continue;
    const auto line = nlohmann::json::parse(lines[i], nullptr, /*allow_exceptions=*/false);
    const std::string where = format("%s:%zu", path.c_str(), i + 1);
    if (!line.is_object()) {
      if (i + 1 == lines.size())
        problems.cut = true;
      else
        problems.lines.push_back(where + " is not a JSON object; skipped");
      continue;
    }
    try {
      f(line);
    } catch (const MissingNumber& missing) {
      problems.lines.push_back(where + " has no number for " + missing.name + "; skipped");
    }
  }
  return problems;
}

RecordFile::RecordFile(const fs::path& path, int64_t keep_until_step) : path_(path), keep_until_step_(keep_until_step) {
  if (keep_until_step < 0 || !fs::exists(path)) return;
  std::string kept;
  for (const auto& line : split(read_text(path), '\n')) {
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) continue;  // the last line of a killed run may be truncated
    const auto step = json.find("step");
    // The resumed run validates the checkpoint's step again and writes its own end.
    const bool written_again =
        json.contains("kind") && (json.at("kind") == ValRecord::kKind || json.at("kind") == EndRecord::kKind);
    const int64_t last = written_again ? keep_until_step - 1 : keep_until_step;
    const bool keep = step == json.end() ? kept.empty() : step->is_number_integer() && step->get<int64_t>() <= last;
    if (keep) kept += line + "\n";
  }
  write_atomic(path, kept);
}

void RecordFile::append(std::string line) {
  const bool first_failure = unwritten_.empty();
  unwritten_ += line + '\n';
  try {
    append_whole(path_, unwritten_);
    unwritten_.clear();
  } catch (const Error& error) {
    if (first_failure) log::warn(std::string(error.what()) + "; its lines are kept until it can be written again");
  }
}

const std::string& RecordFile::unwritten() {
  try {
    if (!unwritten_.empty()) append_whole(path_, unwritten_);
    unwritten_.clear();
  } catch (const Error&) {
  }
  return unwritten_;
}

}  // namespace pgolf
