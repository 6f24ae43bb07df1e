// For tests that damage every byte of a model file.
#pragma once

#include "pgolf/model_io/model_file.h"
#include "support/files.h"
#include "support/models.h"

namespace pgolf::testing {

/// One layer of width 4: a few kilobytes in any format.
inline ModelConfig smallest_config() {
  ModelConfig config = tiny_config();
  config.vocab_size = 4;
  config.num_layers = 1;
  config.model_dim = 4;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.mlp_mult = 1;
  return config;
}

/// True if the content is a model, which is then also built; otherwise it must give a good Error.
inline bool survives(const fs::path& path, const Bytes& content) {
  // Written in place to avoid the flush of an atomic write.
  write_file(path, {reinterpret_cast<const char*>(content.data()), content.size()});
  try {
    const ModelFile file = read_model_file(path);
    EXPECT_LE(file.state.size(), 20u);
    build_model(file, at::kFloat, OpsPath::reference, at::kCPU);
    return true;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::bad_input) << e.what();
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return false;
  }
}

}  // namespace pgolf::testing
