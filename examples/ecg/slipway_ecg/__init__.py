"""The example ecg: the class of a heartbeat from 187 samples."""
