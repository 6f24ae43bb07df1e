#include "pgolf/model/rotary.h"

namespace pgolf {

RotaryImpl::RotaryImpl(const RopeSpec& spec, std::shared_ptr<ops::RopeTableCache> tables)
    : spec_(spec), tables_(std::move(tables)) {}

std::shared_ptr<const ops::RopeTable> RotaryImpl::table(int64_t seq_len, const at::Device& device) const {
  return spec_.none() ? nullptr : tables_->get(spec_, seq_len, device);
}

}  // namespace pgolf
