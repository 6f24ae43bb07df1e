// Where the processes of a job meet.
#pragma once

#include <chrono>
#include <string>

#include "backends.h"
#include "pgolf/dist/process.h"

namespace pgolf {

/// The key-value store at MASTER_ADDR:MASTER_PORT, which rank 0 serves, on that address alone, unless the launcher does; a store
/// in this process for a job of one. A second call gives a second connection.
/// Error(unavailable): rank 0 cannot listen there. Error(peer_lost): no answer within the time.
StorePtr open_store(const Process& process, std::chrono::milliseconds timeout);

/// The address of this machine from which packets to host go: 127.0.0.1 where that is this machine's loopback.
/// Error(unavailable) if host has no address.
std::string address_towards(const std::string& host);

/// This machine's name.
std::string host_name();

}  // namespace pgolf
