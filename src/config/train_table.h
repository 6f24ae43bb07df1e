// All that train_gpt can be told, as one table.
#pragma once

#include "pgolf/config/rope_options.h"
#include "pgolf/config/train_options.h"

namespace pgolf {

/// Filled by OptionTable::resolve: the command, except for what resolve_train_command derives, and the request for rotation.
OptionTable train_table(TrainCommand* command, RopeRequest* rope);

}  // namespace pgolf
