terraform {
  # Write-only arguments and ephemeral resources keep generated passwords out of plans and of the state.
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # The oldest version this module was run with.
      version = ">= 5.100"
    }
  }
}
