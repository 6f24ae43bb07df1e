#include "pgolf/prepare/created_folder.h"

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace fs = std::filesystem;

CreatedFolder::CreatedFolder(const fs::path& folder) {
  std::error_code error;
  for (fs::path path = folder; !path.empty() && !fs::exists(path, error); path = path.parent_path()) created_.push_back(path);
  fs::create_directories(folder, error);
  if (!error) return;
  remove_empty();
  throw Error(ExitCode::io, format("cannot create the folder %s: %s", folder.c_str(), error.message().c_str()));
}

CreatedFolder::~CreatedFolder() {
  remove_empty();
}

void CreatedFolder::remove_empty() const {
  std::error_code not_empty;
  for (const auto& path : created_) fs::remove(path, not_empty);
}

}  // namespace pgolf
