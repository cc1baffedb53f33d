<#
.SYNOPSIS
Runs BOBO Sync on Windows from the start of the machine, as a scheduled task.

.DESCRIPTION
bobosync.exe does not speak the protocol of Windows services, so `sc.exe create` would start it and end it after 30 seconds. The
task scheduler runs any program: from the start of the machine, with nobody logged in, and again when it has ended.

Ending the task ends the program at once. Nothing is lost by that: it is what a power cut does, and the next start goes on.

Run it in an elevated PowerShell:

    .\install.ps1 -Settings C:\BoboSync\bobosync.env
    .\install.ps1 -Uninstall

.PARAMETER Directory
Where bobosync.exe is, and what its relative paths begin from.

.PARAMETER Settings
The file with the settings. It holds passwords: this script lets only administrators and the account read it.

.PARAMETER Data
DATA_DIRECTORY of the settings. Whoever reads it may give orders, and whoever changes the program is given the passwords; below C:\ that is every
user of the machine by default. So this script lets only administrators and the account into it, and nobody but administrators change the program.

.PARAMETER Account
Who it runs as. It needs to read and write the directories of files and DATA_DIRECTORY. A share on another machine needs a
domain account, best a group managed one: -Account 'DOMAIN\bobosync$' -LogonType Password.
#>
[CmdletBinding()]
param(
    [string]$Directory = 'C:\BoboSync',
    [string]$Settings = "$Directory\bobosync.env",
    [string]$Account = 'NT AUTHORITY\LOCAL SERVICE',
    [ValidateSet('ServiceAccount', 'Password', 'S4U')]
    [string]$LogonType = 'ServiceAccount',
    [string]$Data = "$Directory\data",
    [switch]$Uninstall
)
$ErrorActionPreference = 'Stop'
$name = 'BOBO Sync'

if ($Uninstall) {
    Stop-ScheduledTask -TaskName $name -ErrorAction SilentlyContinue
    Unregister-ScheduledTask -TaskName $name -Confirm:$false
    return
}
foreach ($file in "$Directory\bobosync.exe", $Settings) {
    if (-not (Test-Path -PathType Leaf $file)) { throw "There is no $file." }
}

# S-1-5-32-544 are the administrators, S-1-5-18 is the system, in whatever language.
function Set-Rights([string]$Path, [string]$Inherited, [string]$Right) {
    & icacls.exe $Path /inheritance:r /grant "*S-1-5-32-544:${Inherited}F" "*S-1-5-18:${Inherited}F" "${Account}:${Inherited}${Right}" | Out-Null
    if ($LASTEXITCODE -ne 0) { throw "The rights of $Path could not be set." }
}
New-Item -ItemType Directory -Force -Path $Data | Out-Null
Set-Rights $Settings '' 'R'
Set-Rights "$Directory\bobosync.exe" '' 'RX'
Set-Rights $Data '(OI)(CI)' 'M'

$action = New-ScheduledTaskAction -Execute "$Directory\bobosync.exe" -Argument "run --env `"$Settings`"" -WorkingDirectory $Directory
$trigger = New-ScheduledTaskTrigger -AtStartup
$principal = New-ScheduledTaskPrincipal -UserId $Account -LogonType $LogonType -RunLevel Limited
# By default the scheduler ends a task after three days, and runs none on a battery.
$options = New-ScheduledTaskSettingsSet -ExecutionTimeLimit ([TimeSpan]::Zero) -MultipleInstances IgnoreNew -StartWhenAvailable `
    -RestartCount 999 -RestartInterval (New-TimeSpan -Minutes 1) -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries
Register-ScheduledTask -TaskName $name -Action $action -Trigger $trigger -Principal $principal -Settings $options -Force `
    -Description "Carries duty statuses from BOBO's files to AtHoc." | Out-Null
Start-ScheduledTask -TaskName $name
Write-Host "$name runs. Its log is below LOG_DIRECTORY, if $Settings sets it; a task has no console."
