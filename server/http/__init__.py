"""HTTP itself: sockets, requests, replies, worker processes; nothing of what a store holds."""
