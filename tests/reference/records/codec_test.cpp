// Byte shuffle, xz and Brotli against those of the record programs.
#include "pgolf/artifact/codec.h"

#include "pgolf/base/hash.h"
#include "reference/support.h"

namespace pgolf::reference {
namespace {

using Codecs = ReferenceTest;

TEST_F(Codecs, ShuffleAndStreams) {
  for (const auto& [size, expected] : load_json("records/common/byte_shuffle.json").at("cases").items()) {
    SCOPED_TRACE(size);
    Bytes content(std::stoul(size));
    for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<std::byte>((37 * i + (i >> 3)) & 255);
    const Bytes shuffled = byte_shuffle(content);
    EXPECT_EQ(shuffled.size(), expected.at("shuffled_len").get<size_t>());
    EXPECT_EQ(sha256_hex(shuffled), expected.at("shuffled_sha256").get<std::string>());
    // Other versions of the libraries may pack differently.
    const Bytes xz = lzma_compress(shuffled, 6), brotli = brotli_compress(shuffled);
    EXPECT_NEAR(static_cast<double>(xz.size()), expected.at("lzma_len").get<double>(), 8);
    EXPECT_NEAR(static_cast<double>(brotli.size()), expected.at("brotli_len").get<double>(), 8);
    if (sha256_hex(xz) != expected.at("lzma_sha256").get<std::string>()) std::cout << "another xz stream than recorded\n";
    EXPECT_EQ(byte_unshuffle(lzma_decompress(xz, 1 << 20, size)), content);
    EXPECT_EQ(byte_unshuffle(brotli_decompress(brotli, 1 << 20, size)), content);
  }
}

TEST_F(Codecs, RecordedArtifactsUnpackToTheRecordedBytes) {
  for (const char* folder : {"A_sdclip_loop", "C_valcalib_gptq_xsa"}) {
    SCOPED_TRACE(folder);
    const std::string path = std::string("records/") + folder;
    const json run = load_json(path + "/train_fp32.json");
    const Bytes file = read_bytes(shared_folder() / "reference" / path / "artifact_fp32.ptz");
    const Codec codec = codec_of(file);
    EXPECT_EQ(codec, std::string_view(folder).starts_with("C_") ? Codec::lzma : Codec::brotli);
    const Bytes archive = decompress(codec, file, size_t{1} << 28, folder);
    EXPECT_EQ(sha256_hex(archive), run.at("raw_container_sha256").get<std::string>());
    const auto packed = static_cast<double>(compress(codec, archive).size());
    EXPECT_NEAR(packed, static_cast<double>(file.size()), 1e-3 * static_cast<double>(file.size()));
    std::cout << folder << ": " << packed << " bytes, recorded " << file.size() << "\n";
  }
}

}  // namespace
}  // namespace pgolf::reference
