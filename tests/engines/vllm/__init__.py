"""Tests of kvplan/engines/vllm."""
