// Option values that are lists with an entry per layer: "16*8,full".
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace pgolf {

/// Comma-separated entries; "16*8" is eight times 16. parse(text) gives an entry's value. Error(usage) without an option's name
/// for an empty entry, a count that is not positive, and more than max_layers values.
std::vector<int> parse_layer_list(std::string_view text, int max_layers, const std::function<int(std::string_view)>& parse);

/// The canonical text of such a list, from its entries' texts.
std::string layer_list_text(const std::vector<std::string>& entries);

/// Of any model.
inline constexpr int kMaxLayers = 1024;

/// What help and errors say about repetition.
inline constexpr const char* kLayerListHint =
    "separated by commas, 16*8 for eight times 16; the list is repeated to fill all layers";

}  // namespace pgolf
