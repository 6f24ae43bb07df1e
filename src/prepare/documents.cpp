#include "pgolf/prepare/documents.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace fs = std::filesystem;
namespace {

const std::vector<std::string> kExtensions = {".txt", ".jsonl"};

bool has_extension(const fs::path& path, const std::vector<std::string>& extensions) {
  return std::find(extensions.begin(), extensions.end(), path.extension().string()) != extensions.end();
}

void require_utf8(std::string_view text, const fs::path& path) {
  const size_t valid = valid_utf8_bytes(text);
  if (valid == text.size()) return;
  throw Error(ExitCode::bad_input, format("%s: byte %zu is not valid UTF-8", path.c_str(), valid),
              "convert the file first, for example with iconv -f latin1 -t utf-8");
}

}  // namespace

std::vector<fs::path> files_below(const fs::path& folder, const std::vector<std::string>& extensions) {
  std::vector<fs::path> found;
  try {
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file() && has_extension(entry.path(), extensions)) found.push_back(entry.path());
    }
  } catch (const fs::filesystem_error& e) {
    throw Error(ExitCode::io, format("cannot list %s: %s", folder.c_str(), e.code().message().c_str()));
  }
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return found;
}

void create_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw Error(ExitCode::io, format("cannot create the folder %s: %s", folder.c_str(), error.message().c_str()));
}

DocumentReader::DocumentReader(const std::vector<fs::path>& inputs) {
  for (const auto& input : inputs) {
    if (fs::is_directory(input)) {
      const auto found = files_below(input, kExtensions);
      files_.insert(files_.end(), found.begin(), found.end());
    } else if (!fs::exists(input)) {
      throw Error(ExitCode::bad_input, format("no such input: %s", input.c_str()));
    } else if (!has_extension(input, kExtensions)) {
      throw Error(ExitCode::bad_input, format("%s is neither .txt nor .jsonl", input.c_str()),
                  "documents are read from .txt files (one each), .jsonl files (one per line, in \"text\") and folders of these");
    } else {
      files_.push_back(input);
    }
  }
  if (files_.empty()) {
    throw Error(ExitCode::bad_input, "the inputs contain no .txt or .jsonl file",
                "pass at least one, or a folder that contains some");
  }
  for (const auto& file : files_) total_bytes_ += static_cast<int64_t>(fs::file_size(file));
}

bool DocumentReader::next(std::string& text) {
  while (true) {
    if (lines_) {
      if (next_line(text)) return true;
      lines_.reset();
    }
    if (next_file_ == files_.size()) return false;
    const fs::path& file = files_[next_file_++];
    if (file.extension() == ".jsonl") {
      lines_.emplace(file);
      offset_ = 0;
      line_number_ = 0;
      continue;
    }
    text = read_text(file);
    require_utf8(text, file);
    bytes_read_ += static_cast<int64_t>(text.size());
    return true;
  }
}

bool DocumentReader::next_line(std::string& text) {
  const BytesView bytes = lines_->bytes();
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  while (offset_ < all.size()) {
    const size_t end = std::min(all.find('\n', offset_), all.size());
    const std::string_view line = all.substr(offset_, end - offset_);
    const size_t next_offset = std::min(end + 1, all.size());
    bytes_read_ += static_cast<int64_t>(next_offset - offset_);
    offset_ = next_offset;
    ++line_number_;
    if (trim(line).empty()) continue;
    auto value = nlohmann::json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    const auto field = value.is_object() ? value.find("text") : value.end();
    if (value.is_discarded() || field == value.end() || !field->is_string()) {
      throw Error(ExitCode::bad_input,
                  format("%s:%lld: %s", lines_->path().c_str(), static_cast<long long>(line_number_),
                         value.is_discarded() ? "not valid JSON in UTF-8" : "not an object with a string field \"text\""),
                  "each line must be one document, such as {\"text\": \"...\"}");
    }
    text = std::move(field->get_ref<std::string&>());
    return true;
  }
  return false;
}

}  // namespace pgolf
