#include "liveness.h"

#include <unistd.h>

#include <algorithm>

#include "pgolf/base/format.h"
#include "rendezvous.h"

namespace pgolf {
namespace {

using namespace std::chrono_literals;

constexpr auto kInterval = 500ms;
constexpr auto kStill = 4s;   ///< of a counter, once a collective has failed
constexpr auto kGrace = 10s;  ///< for the main thread to report a loss itself

// Values of a counter: "beat N"; "error TEXT" of a process that ends by itself; "after TEXT" of one that ends because
// another was lost.
constexpr std::string_view kBeat = "beat ", kError = "error ", kAfter = "after ";

std::vector<uint8_t> bytes_of(const std::string& text) {
  return {text.begin(), text.end()};
}
std::string text_of(const std::vector<uint8_t>& bytes) {
  return {bytes.begin(), bytes.end()};
}

}  // namespace

Liveness::Liveness(const Process& process, StorePtr store, std::chrono::milliseconds timeout)
    : process_(process), store_(std::move(store)), timeout_(timeout) {
  for (int rank = 0; rank < process_.world_size(); ++rank) keys_.push_back("alive/" + std::to_string(rank));
  store_->set(keys_[static_cast<size_t>(process_.rank())], bytes_of(std::string(kBeat) + "0"));
  store_->set("host/" + std::to_string(process_.rank()), bytes_of(format("pid %d on %s", ::getpid(), host_name().c_str())));
}

Liveness::~Liveness() {
  stop();
}

void Liveness::start() {
  for (int rank = 0; rank < process_.world_size(); ++rank) {
    hosts_.push_back(text_of(store_->get("host/" + std::to_string(rank))));
  }
  answered_ = Clock::now();
  peers_.assign(keys_.size(), Peer{"", answered_});
  thread_ = std::thread([this] { watch(); });
}

std::string Liveness::name_of(int rank) const {
  return format("rank %d (%s)", rank, hosts_[static_cast<size_t>(rank)].c_str());
}

void Liveness::exchange(const std::string& own) {
  store_->set(keys_[static_cast<size_t>(process_.rank())], bytes_of(own));
  const auto values = store_->multiGet(keys_);
  const std::lock_guard lock(mutex_);
  answered_ = Clock::now();
  told_ = own == last_words_;
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string value = text_of(values[i]);
    if (value != peers_[i].value) peers_[i] = {value, Clock::now()};
  }
}

void Liveness::watch() {
  std::optional<Clock::time_point> known;
  for (int64_t beat = 1;; ++beat) {
    std::string own = std::string(kBeat) + std::to_string(beat);
    {
      const std::lock_guard lock(mutex_);
      if (!last_words_.empty()) own = last_words_;
    }
    try {
      exchange(own);
    } catch (const std::exception&) {
      const std::lock_guard lock(mutex_);
      broken_ = true;
    }
    std::unique_lock lock(mutex_);
    changed_.notify_all();
    if (const auto error = lost(timeout_)) {
      if (!known) known = Clock::now();
      if (Clock::now() - *known > kGrace && !stopping_) {
        // The main thread hangs in a collective or is far from the next one.
        print_error(*error);
        ::_exit(static_cast<int>(error->code()));
      }
    }
    if (changed_.wait_for(lock, kInterval, [this] { return stopping_; })) return;
  }
}

std::optional<Error> Liveness::lost(Clock::duration patience) const {
  const auto now = Clock::now();
  const bool store_lost = now - answered_ > (broken_ ? std::min<Clock::duration>(patience, kStill) : patience);
  std::optional<std::string> after;
  for (size_t i = 0; i < peers_.size(); ++i) {
    const auto& [value, changed] = peers_[i];
    if (static_cast<int>(i) == process_.rank()) continue;
    const std::string who = name_of(static_cast<int>(i));
    if (value.starts_with(kError)) {
      return Error(ExitCode::peer_lost, format("%s ended: %s", who.c_str(), value.substr(kError.size()).c_str()));
    }
    if (value.starts_with(kAfter)) {
      after = value.substr(kAfter.size());
    } else if (answered_ - changed > patience) {
      return Error(ExitCode::peer_lost, format("%s was lost: killed, crashed, hung or cut off", who.c_str()),
                   "see its own messages; continue with --resume");
    }
  }
  if (after) return Error(ExitCode::peer_lost, *after);
  if (store_lost) {
    const std::string who = process_.launcher_has_store() ? "the launcher's store" : name_of(0);
    return Error(
        ExitCode::peer_lost,
        format("%s at MASTER_ADDR=%s was lost: killed, crashed, hung or cut off", who.c_str(), process_.master_addr().c_str()),
        "see its own messages; continue with --resume");
  }
  return std::nullopt;
}

Error Liveness::verdict(const std::string& failure) {
  std::unique_lock lock(mutex_);
  const auto deadline = Clock::now() + 2 * kStill;
  while (Clock::now() < deadline) {
    if (auto error = lost(kStill)) return *error;
    changed_.wait_for(lock, kInterval);
  }
  return {ExitCode::peer_lost, "a process of this job no longer answers: " + failure, "see the messages of the others"};
}

void Liveness::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Liveness::leave(const Error& error) {
  const std::string text = error.what();
  const bool follows = error.code() == ExitCode::peer_lost;
  std::unique_lock lock(mutex_);
  last_words_ = std::string(follows ? kAfter : kError) + text;
  // Rank 0 may serve the store, so it goes last; the others look whether it says the same.
  const auto deadline = Clock::now() + kStill;
  const auto reported = [this](const Peer& peer) { return !peer.value.empty() && !peer.value.starts_with(kBeat); };
  while (Clock::now() < deadline && !broken_) {
    if (told_ && (process_.is_master() ? std::all_of(peers_.begin(), peers_.end(), reported) : reported(peers_[0]))) break;
    changed_.wait_for(lock, kInterval);
  }
  if (process_.is_master()) {
    changed_.wait_for(lock, 2 * kInterval, [] { return false; });  // the others read what it said
    return true;
  }
  if (!reported(peers_[0])) return true;
  const std::string_view told = std::string_view(peers_[0].value).substr(peers_[0].value.find(' ') + 1);
  return !text.ends_with(told) && !told.ends_with(text);
}

}  // namespace pgolf
