"""Videos in and out, frame by frame, with the times at which frames are shown."""
