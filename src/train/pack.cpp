#include "pgolf/train/pack.h"

#include <algorithm>

#include "pgolf/artifact/contents.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/stopwatch.h"
#include "pgolf/train/calibrate.h"
#include "pgolf/train/fit_budget.h"

namespace pgolf {
namespace {

/// "matrices:67 bits_per_code:3.321": their entropy.
std::string describe_codes(const CodedTensors& tensors) {
  size_t matrices = 0;
  double codes = 0, bits = 0;
  for (const CodedTensor& tensor : tensors) {
    if (!tensor.scale) continue;
    const auto count = static_cast<double>(tensor.data.numel());
    ++matrices;
    codes += count;
    bits += count * code_entropy(tensor.data);
  }
  return format("matrices:%zu bits_per_code:%.3f", matrices, bits / std::max(codes, 1.0));
}

}  // namespace

PackedModel pack_model(Gpt& model, const ModelMetadata& metadata, const RunConfig& config, const Runtime& runtime,
                       const Process& process, int64_t code_bytes, const std::function<void()>& after_part) {
  const OutputConfig& output = config.output;
  const StateDict state = state_dict(model);
  if (output.artifact.quantizer == Quantizer::int8) {
    const QuantizedModel quantized = quantize_int8(state, output.int8_keep_float_patterns);
    return {make_artifact(quantized, metadata, output.artifact), quantized.stats};
  }
  const auto done = [&] {
    if (after_part) after_part();
  };
  Stopwatch watch;
  const Hessians hessians = calibrate(model, config, runtime, process);
  log::info(format("gptq:calibrated text:%s batches:%d hessians:%zu time:%.1fs", enum_text(output.gptq.calibration),
                   output.gptq.calibration_batches, hessians.size(), watch.lap()));
  done();
  const PreparedHessians prepared = prepare_hessians(hessians);
  const auto quantize = [&](double factor) {
    GptqConfig scaled = output.gptq;
    scaled.matrix_clip_sigmas *= factor;
    scaled.embed_clip_sigmas *= factor;
    QuantizedModel quantized = quantize_gptq(state, prepared, scaled);
    log::info(format("gptq:quantized %s time:%.1fs", describe_codes(quantized.tensors).c_str(), watch.lap()));
    done();
    return quantized;
  };
  const auto compress = [&](const QuantizedModel& quantized) {
    Artifact artifact = make_artifact(quantized, metadata, output.artifact);
    log::info(
        format("gptq:compressed %s bytes:%zu time:%.1fs", codec_name(output.artifact.codec), artifact.file.size(), watch.lap()));
    done();
    return artifact;
  };
  if (!output.fit_budget) {
    const QuantizedModel quantized = quantize(1);
    return {compress(quantized), quantized.stats};
  }
  const FittedModel fitted = fit_budget(quantize, compress, output.budget_bytes - code_bytes);
  log::info(format("gptq:fitted factor:%.4f MATRIX_CLIP_SIGMAS:%.4g EMBED_CLIP_SIGMAS:%.4g", fitted.factor,
                   output.gptq.matrix_clip_sigmas * fitted.factor, output.gptq.embed_clip_sigmas * fitted.factor));
  return {fitted.artifact, fitted.quantized.stats};
}

}  // namespace pgolf
