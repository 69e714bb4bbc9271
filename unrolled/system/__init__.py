"""What is not of this field: files, devices, memory, recipes, arrays, torchvision."""
