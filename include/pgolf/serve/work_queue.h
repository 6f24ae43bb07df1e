// Runs work of many threads on one thread, first come, first served. LibTorch keeps a thread team per calling thread, so a single
// thread runs the model.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <utility>

namespace pgolf {

class WorkQueue {
 public:
  struct Withdrawn {};

  /// Runs work() on the thread that calls run(), and returns its result or rethrows. Must not be called after finish(). While
  /// work waits for its turn, withdraw() is asked about ten times a second; when it is true, work is dropped and Withdrawn
  /// thrown.
  template <typename Work>
  auto call(Work&& work, const std::function<bool()>& withdraw) {
    using Result = std::invoke_result_t<Work>;
    auto task = std::make_shared<std::packaged_task<Result()>>(std::forward<Work>(work));
    auto taken = std::make_shared<std::atomic<bool>>(false);  // by either thread
    auto result = task->get_future();
    {
      const std::lock_guard lock(mutex_);
      queue_.emplace_back([task, taken] {
        if (!taken->exchange(true)) (*task)();
      });
    }
    ready_.notify_one();
    while (result.wait_for(std::chrono::milliseconds(100)) != std::future_status::ready) {
      if (withdraw() && !taken->exchange(true)) throw Withdrawn{};
    }
    return result.get();
  }

  /// Runs the queued work until finish(). idle is called about ten times a second, and between tasks.
  void run(const std::function<void()>& idle) {
    std::unique_lock lock(mutex_);
    while (!finished_) {
      if (queue_.empty()) ready_.wait_for(lock, std::chrono::milliseconds(100));
      std::function<void()> task;
      if (!queue_.empty()) {
        task = std::move(queue_.front());
        queue_.pop_front();
      }
      lock.unlock();
      if (task) task();
      idle();
      lock.lock();
    }
  }

  void finish() {
    {
      const std::lock_guard lock(mutex_);
      finished_ = true;
    }
    ready_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> queue_;
  bool finished_ = false;
};

}  // namespace pgolf
