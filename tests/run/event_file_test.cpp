// Event files, read back by their definition.
#include "support/event_reader.h"
#include "support/files.h"

namespace pgolf::testing {
namespace {

TEST(EventFile, ChecksumIsCastagnolis) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);              // the check value of CRC-32C
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);    // RFC 3720, appendix B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);  // likewise
}

TEST(EventFile, BeginsWithItsVersionAndTheFirstStepToCome) {
  const TempFolder folder;
  const EventFile file(folder.path(), 7);
  EXPECT_TRUE(file.path().filename().string().starts_with("events.out.tfevents."));
  auto events = read_events(file.path());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_GT(events[0].number(1), 1.7e9);
  EXPECT_EQ(events[0].bytes(3), "brain.Event:2");
  EXPECT_EQ(events[1].integer(2), 8);
  EXPECT_EQ(events[1].message(7).integer(1), 1);
}

TEST(EventFile, HasTheNumbersOfRecords) {
  const TempFolder folder;
  EventFile file(folder.path());
  file.write(TrainRecord{.step = 300, .train_loss = 2.5, .lr_scale = 0.5, .muon_momentum = 0.9, .tokens = 4096});
  file.write(ValRecord{.step = 300, .val_loss = 2, .val_bpb = 1.25});
  file.write(ScoreRecord{.name = "sliding_window", .val_bpb = 1.125});
  const auto scalars = read_scalars(file.path());
  EXPECT_EQ(scalars.at({300, "train/loss"}), 2.5f);
  EXPECT_EQ(scalars.at({300, "train/muon_momentum"}), 0.9f);
  EXPECT_EQ(scalars.at({300, "train/tokens"}), 4096.0f);
  EXPECT_EQ(scalars.at({300, "val/bpb"}), 1.25f);
  EXPECT_EQ(scalars.at({300, "score/sliding_window/val_bpb"}), 1.125f);
  EXPECT_FALSE(scalars.contains({300, "train/grad_norm"}));  // not measured
  EXPECT_FALSE(scalars.contains({300, "train/step"}));
}

TEST(EventFile, HasTextAndHistograms) {
  const TempFolder folder;
  EventFile file(folder.path());
  file.write(SampleRecord{.step = 4, .text = "Once upon a time"});
  file.histogram(5, "w", {.min = -1, .max = 2, .sum = 3, .sum_squares = 9, .count = 4, .limits = {0, 2}, .counts = {1, 3}});
  auto events = read_events(file.path());
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[2].integer(2), 4);
  ReadMessage text = events[2].message(5).message(1);
  EXPECT_EQ(text.bytes(1), "sample");
  EXPECT_EQ(text.message(9).message(1).bytes(1), "text");
  EXPECT_EQ(text.message(8).integer(1), 7);
  EXPECT_EQ(text.message(8).message(2).message(2).integer(1), 1);
  EXPECT_EQ(text.message(8).bytes(8), "Once upon a time");
  ReadMessage histogram = events[3].message(5).message(1).message(5);
  EXPECT_EQ(histogram.number(1), -1);
  EXPECT_EQ(histogram.number(2), 2);
  EXPECT_EQ(histogram.number(3), 4);
  EXPECT_EQ(histogram.number(4), 3);
  EXPECT_EQ(histogram.number(5), 9);
  ASSERT_EQ(histogram.bytes(6).size(), 16u);
  EXPECT_EQ(std::bit_cast<double>(little_endian(histogram.bytes(6).substr(8))), 2);
  EXPECT_EQ(std::bit_cast<double>(little_endian(histogram.bytes(7).substr(8))), 3);
}

TEST(EventFile, ThatCannotBeWrittenIsNoError) {
  const TempFolder folder;
  EventFile file(folder / "later");
  file.write(TrainRecord{.step = 1, .train_loss = 2});
  std::filesystem::create_directory(folder / "later");
  file.write(TrainRecord{.step = 2, .train_loss = 1});
  EXPECT_EQ(read_scalars(file.path()).count({2, "train/loss"}), 1u);
}

}  // namespace
}  // namespace pgolf::testing
