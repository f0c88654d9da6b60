"""Publishing: what turns the detections of finished runs into filesets for clients."""
