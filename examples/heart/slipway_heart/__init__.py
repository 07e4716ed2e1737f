"""The example heart: heart disease from 13 clinical inputs."""
