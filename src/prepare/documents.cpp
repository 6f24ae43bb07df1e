#include "pgolf/prepare/documents.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "pgolf/base/error.h"
#include "pgolf/base/foreign_kind.h"
#include "pgolf/base/format.h"
#include "pgolf/base/json_problem.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"
#include "pgolf/prepare/folder_files.h"

namespace pgolf {
namespace fs = std::filesystem;
namespace {

const std::vector<std::string> kExtensions = {".txt", ".jsonl"};
constexpr size_t kMaxLineBytes = size_t{256} << 20;

bool has_extension(const fs::path& path, const std::vector<std::string>& extensions) {
  return std::find(extensions.begin(), extensions.end(), path.extension().string()) != extensions.end();
}

/// A file that is no text in UTF-8 as a whole, told by its first bytes.
void require_text(BytesView file, const fs::path& path) {
  const std::string encoding = wide_encoding(file);
  if (!encoding.empty()) {
    throw Error(ExitCode::bad_input, format("%s is %s text", path.c_str(), encoding.c_str()),
                format("convert it first: iconv -f %s -t utf-8", encoding.c_str()));
  }
  const std::string kind = describe_foreign(file);
  if (kind.starts_with("a Git LFS pointer"))
    throw Error(ExitCode::bad_input, format("%s is %s", path.c_str(), kind.c_str()), "download it with git lfs pull");
}

void require_utf8(std::string_view text, const fs::path& path) {
  const size_t valid = valid_utf8_bytes(text);
  if (valid == text.size()) return;
  if (const std::string kind = describe_foreign(as_bytes(text)); !kind.empty())
    throw Error(ExitCode::bad_input, format("%s is %s", path.c_str(), kind.c_str()), "documents are .txt and .jsonl files");
  throw Error(ExitCode::bad_input, format("%s: byte %zu is not valid UTF-8", path.c_str(), valid),
              "convert the file first, for example with iconv -f latin1 -t utf-8");
}

}  // namespace

void create_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw Error(ExitCode::io, format("cannot create the folder %s: %s", folder.c_str(), error.message().c_str()));
}

DocumentReader::DocumentReader(const std::vector<fs::path>& inputs) {
  for (const auto& input : inputs) {
    if (fs::is_directory(input)) {
      const auto found = files_below(input, kExtensions);
      files_.insert(files_.end(), found.files.begin(), found.files.end());
      if (const std::string rest = found.left_out(); !rest.empty())
        log::info(format("left out of %s: %s", input.c_str(), rest.c_str()));
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
      require_text(lines_->bytes(), file);
      offset_ = 0;
      line_number_ = 0;
      continue;
    }
    text = read_text(file);
    require_text(as_bytes(text), file);
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
    const auto refuse = [&](const std::string& problem) {
      throw Error(ExitCode::bad_input,
                  format("%s:%lld: %s", lines_->path().c_str(), static_cast<long long>(line_number_), problem.c_str()),
                  "each line must be one document, such as {\"text\": \"...\"}");
    };
    if (line.size() > kMaxLineBytes) refuse(format("the line has %zu bytes; the limit is %zu", line.size(), kMaxLineBytes));
    auto value = nlohmann::json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    if (value.is_discarded()) {
      const std::string kind = line_number_ == 1 ? describe_foreign(bytes) : "";
      refuse(kind.empty() || kind == "JSON" || kind == "a text file" ? json_problem(line) : "the file is " + kind);
    }
    const auto field = value.is_object() ? value.find("text") : value.end();
    if (field == value.end() || !field->is_string()) refuse("not an object with a string field \"text\"");
    text = std::move(field->get_ref<std::string&>());
    return true;
  }
  return false;
}

}  // namespace pgolf
